"""Run the campaign, or one part of it, and count what must not happen.

    python -m tests.attack [all|kills|damage|calls|grids|tables|plugins ...] [--n N] [--seed S] [--json FILE]
    python -m tests.attack calls --every 1/2     the first of two halves, for two processes at once
    python -m tests.attack PART --only CASE [--seed S]

Each case depends on its part, the seed and its number alone; one that fails says how to repeat it. Exit status 1 if
any count is not zero.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import calls, damage, inputs, kills, template
from .harness import KINDS, Case, case, import_everything

_Run = Callable[[Case, int], None]


@dataclass(frozen=True)
class Part:
    """A part of the campaign: how many cases it has, what a case does, and whether it begins with a store."""

    n: int
    run: _Run
    stored: bool = False


PARTS: dict[str, Part] = {
    "kills": Part(20, lambda case, number: kills.run(case)),
    "damage": Part(len(damage.CASES), damage.run, stored=True),
    "calls": Part(2000, lambda case, number: calls.run(case), stored=True),
    "grids": Part(200, lambda case, number: inputs.run_grid(case)),
    "tables": Part(90, lambda case, number: inputs.run_table(case)),
    "plugins": Part(len(inputs.PLANTED), inputs.run_plugin),
}


@dataclass
class Counts:
    """What a part came to: cases, calls of `lab`, what was planted, and how often what must not happen did."""

    cases: int = 0
    calls: int = 0
    planted: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    failing: list[str] = field(default_factory=list)
    seconds: float = 0.0


def attack(name: str, numbers: Sequence[int], seed: int, scratch: Path, store: Path | None, loud: bool) -> Counts:
    """Run these cases of one part; prints those that fail, and with `loud` what all calls printed."""
    part, counts, begun = PARTS[name], Counts(), time.monotonic()
    for number in numbers:
        with case(name, seed, number, scratch, store if part.stored else None) as made:
            try:
                part.run(made, number)
            finally:
                counts.cases += 1
                counts.calls += len(made.calls)
                counts.planted += made.disturbed
                counts.statuses.update(str(ended.status) for ended in made.calls)
            for fault in made.faults:
                counts.faults[fault.kind] += 1
                repeat = f"python -m tests.attack {name} --seed {seed} --only {number}"
                counts.failing.append(f"{fault.kind}: {fault.text}   [{repeat}]")
                print(counts.failing[-1], flush=True)
            if loud:
                for ended in made.calls:
                    print(f"$ {ended.typed}\n{ended.out[-2000:]}{ended.err[-4000:]}", end="")
                    print(f"[status {ended.status}, {ended.seconds:.1f} s]")
    counts.seconds = round(time.monotonic() - begun, 1)
    return counts


def _spread(whole: int, n: int | None, seed: int) -> list[int]:
    """Numbers of the cases: all, or `n` of them, spread evenly so that few cases are of many kinds."""
    wanted = whole if n is None else n
    if wanted >= whole:
        return list(range(wanted))
    step = next(k for k in range(max(1, int(whole * 0.618)), 2 * whole + 2) if _coprime(k, whole))
    return [(seed + i * step) % whole for i in range(wanted)]


def share(text: str) -> tuple[int, int]:
    """K and N of `K/N`."""
    first, _, every = text.partition("/")
    if not 1 <= int(first) <= int(every):
        raise ValueError
    return int(first), int(every)


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", default="all", choices=[*PARTS, "all"])
    parser.add_argument("--n", type=int, help="how many cases of each part (default: a whole campaign)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="only this case, with all that it printed")
    parser.add_argument("--json", type=Path, help="write the counts there")
    parser.add_argument("--every", type=share, default=(1, 1), metavar="K/N", help="every N-th case from the K-th on")
    asked = parser.parse_args()
    names = list(PARTS) if "all" in asked.parts else list(dict.fromkeys(asked.parts))
    if asked.only is not None and len(names) > 1:
        parser.error("--only takes one part")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        scratch = Path(folder)
        os.environ["MPLCONFIGDIR"] = str(scratch / "fonts")
        import_everything()
        store = template.build(scratch / "store") if any(PARTS[name].stored for name in names) else None
        (first, every), only = asked.every, asked.only
        numbers = {name: _spread(PARTS[name].n, asked.n, asked.seed)[first - 1 :: every] for name in names}
        chosen = numbers if only is None else {name: [only] for name in names}
        found = {name: attack(name, chosen[name], asked.seed, scratch, store, only is not None) for name in names}
    for name, counts in found.items():
        bad: dict[str, Any] = {kind: counts.faults[kind] for kind in KINDS}
        print(
            f"{name}: {counts.cases} cases, {counts.planted} planted, {counts.calls} calls, {counts.seconds:.0f} s: "
            + ", ".join(f"{count} {kind}" for kind, count in bad.items())
        )
    if asked.json:
        asked.json.write_text(json.dumps({name: vars(counts) for name, counts in found.items()}, indent=1) + "\n")
    sys.exit(any(counts.failing for counts in found.values()))


if __name__ == "__main__":
    main()
