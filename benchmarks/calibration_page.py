"""docs/calibration.md and its figure, from the rows that the package ships.

lab calibrate --csv genlab/probes/calibration.csv     measure (about half an hour on one core)
python benchmarks/calibration_page.py                 write the page and docs/figures/calibration.png from the rows
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from genlab.probes.calibrated import ALL, DETECTS, DOSE, REFERENCE, RIGHT, Row, Verdict, shipped, verdicts
from genlab.probes.mechanisms import MECHANISMS, UNCALIBRATED, Construction, Mechanism
from genlab.probes.signal import all_signals
from genlab.rasp.compiler.runs import find_program
from genlab.report.calibration import draw
from genlab.tasks import make

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURE = DOCS / "calibration.md", DOCS / "figures" / "calibration.png"

HEAD = f"""\
# Calibration: what each signal detects

A signal is read in models whose mechanism is known because it was compiled in
([rasp.md](rasp.md#programs-as-weights)), and in models that lack it. Each mechanism has at least two constructions
that have it and two that lack it: one alone would show sensitivity to that construction. This page is written by
`python benchmarks/calibration_page.py` from the rows of `genlab/probes/calibration.csv`, which come from

    lab calibrate --csv genlab/probes/calibration.csv

**How.** The basis of the residual stream is rotated at random. Random heads and neurons (decoys) are added so that
the models of a group have about as many heads, since the largest value over heads grows with their number. From
this reference one thing is varied at a time: noise on the weights (as a fraction of the root mean square of each
matrix), the number of decoys, the width of the residual stream (as a fraction of the number of its directions,
which are then in superposition), and the length of the inputs. A value is the largest over heads or layers (the
smallest for signals that are low where the mechanism is present; the mean over heads for a dose). AUROC is the
probability that a model with the mechanism has the larger value than one without; at least {DETECTS:g} counts as
detection. A score is marked * where some model gives less than {RIGHT:g} of its program's answers: nothing is said
of signals there. *Kept* is the median fraction of answers that stay the same if the head with the value writes
nothing: at 1 an intervention does not confirm that this head matters. `lab signals NAME` prints what is said here
of a signal.

**What it cannot say.** A signal that misses a compiled form is blind to that form; one that finds it may still miss
what training makes. With {{seeds}} seeds per construction an AUROC of 1 means that no pair of models is in the
wrong order.

![AUROC by signal, construction and condition](figures/calibration.png)
"""


def page(rows: Sequence[Row]) -> str:
    """The whole page."""
    found = verdicts(rows)
    parts = [HEAD.format(seeds=found[0].n[0]), _summary(found)]
    parts.append(_brackets([one for one in found if one.mechanism == "violations"]))
    parts += [_section(m, own) for m in MECHANISMS if (own := [r for r in rows if r.mechanism == m.name])]
    return "\n".join([*parts, _others()])


def _summary(found: Sequence[Verdict]) -> str:
    lines = ["## In short", "", "| mechanism | signal | in short | kept |", "|---|---|---|---|"]
    lines += [f"| {one.mechanism} | `{one.value}` | {one.text} | {_number(one.kept)} |" for one in found]
    whole = [one for one in found if _tells_all(one)]
    none = [one for one in found if not one.found]
    lines += [
        "",
        f"Of {len(found)} pairs of a mechanism and a value, {len(whole)} detect every construction and are fooled by "
        f"none; {len(none)} detect no construction; the others miss some, or are fooled by some.",
        "",
    ]
    return "\n".join(lines)


def _brackets(found: Sequence[Verdict]) -> str:
    """Whether the signals of brackets tell the two rules apart, in words."""
    mechanism = next(one for one in MECHANISMS if one.name == found[0].mechanism)
    whole, none = [one for one in found if _tells_all(one)], [one for one in found if not one.found]
    lines = [
        "## Do the bracket signals tell NESTED from EQUAL-COUNT?",
        "",
        f"Each rule is known to be there: NESTED in {len(mechanism.has)} compiled forms, EQUAL-COUNT in "
        f"{len(mechanism.lacks)}. With exact weights,",
        "",
        *_listed("tell every form of NESTED from all of EQUAL-COUNT", whole),
        *(f"- `{one.value}` {_flaws(one)}" for one in found if one not in whole and one not in none),
        *_listed("tell no form", none),
        "",
        f"Under noise {found[0].breaks:g} on the weights some models already answer wrong: nothing is said of noise. "
        "A signal that misses a form is blind to that form of the rule. One that finds all of them may miss the "
        "form that training makes: this page is no evidence of what trained models do.",
        "",
    ]
    return "\n".join(lines)


def _tells_all(one: Verdict) -> bool:
    return bool(one.found) and not one.missed and not one.fooled


def _flaws(one: Verdict) -> str:
    flaws = {"misses": one.missed, "is fooled by": one.fooled}
    return "; ".join(f"{how} {', '.join(f'`{p}`' for p in programs)}" for how, programs in flaws.items() if programs)


def _listed(what: str, found: Sequence[Verdict]) -> list[str]:
    return [f"- {', '.join(f'`{one.value}`' for one in found)} {what}"] if found else []


def _section(mechanism: Mechanism, rows: Sequence[Row]) -> str:
    lines = [f"## {mechanism.name}", "", f"{_sentence(mechanism.about)} Matched: {mechanism.matched}.", ""]
    lines += [f"- has it: {_about(c)}" for c in mechanism.has] + [f"- lacks it: {_about(c)}" for c in mechanism.lacks]
    whole = [row for row in rows if row.lacks in (ALL, "")]
    conditions = list(dict.fromkeys((row.axis, row.level) for row in whole))
    heads = [axis if axis in (REFERENCE, DOSE) else f"{axis} {level:g}" for axis, level in conditions]
    columns = ["value", "has it", "values", "values without", "kept", *heads]
    lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    by_line: dict[tuple[str, str], dict[tuple[str, float], Row]] = {}
    for row in whole:
        by_line.setdefault((row.value, row.has), {})[row.axis, row.level] = row
    for (value, program), of_line in by_line.items():
        first = of_line[conditions[0]]
        cells = [f"`{value}`", f"`{program}`", _range(first.has_low, first.has_high)]
        cells += [_range(first.lacks_low, first.lacks_high), _number(first.has_kept)]
        cells += [_score(of_line.get(c)) for c in conditions]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- `{one.value}` {one.text}." for one in verdicts(rows)), ""]
    return "\n".join(lines)


def _about(made: Construction) -> str:
    program = find_program(made.program, make(made.task, made.max_len, made.format))
    said = (inspect.getdoc(program) or "").split("\n")[0].rstrip(".")
    return f"`{made.program}` ({made.task} up to {made.max_len}): {said}"


def _others() -> str:
    lines = ["## Not calibrated", "", "| signal or family | why |", "|---|---|"]
    families = {s.family for s in all_signals()}
    measured = {row.mechanism for row in shipped()}
    for mechanism in MECHANISMS:
        if mechanism.name not in measured:
            why = f"not measured yet: `lab calibrate --mechanism {mechanism.name}` compiles large models"
            lines += [f"| {', '.join(f'`{value}`' for value in mechanism.claims)} | {why} |"]
    lines += [f"| `{name}`{' (family)' if name in families else ''} | {why} |" for name, why in UNCALIBRATED.items()]
    return "\n".join([*lines, ""])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _score(row: Row | None) -> str:
    return "-" if row is None or math.isnan(row.score) else f"{row.score:.2f}{'' if row.sound else '*'}"


def _range(low: float, high: float) -> str:
    if math.isnan(low):
        return "-"
    small, large = (f"{x:.2f}" if abs(x) < 100 else f"{x:.0f}" for x in (low, high))
    return small if small == large else f"{small} to {large}"


def main() -> None:
    """Write the page and the figure."""
    PAGE.write_text(page(shipped()))
    draw(shipped(), FIGURE)
    with Image.open(FIGURE) as image:
        small = image.convert("RGB").quantize(64)
    small.save(FIGURE, optimize=True)


if __name__ == "__main__":
    main()
