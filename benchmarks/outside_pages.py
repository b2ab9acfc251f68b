"""Measure committed runs for the pages on monitors, lines, items, constants and dispersion, and write their tables.

    python benchmarks/outside_pages.py monitor NAME RUN... --store STORE [--split S,S] [--lengths 9:24:3]
    python benchmarks/outside_pages.py lines RUN... --store STORE
    python benchmarks/outside_pages.py items NAME RUN... --store STORE
    python benchmarks/outside_pages.py constants NAME RUN... --store STORE [--lengths 20] [--noise 0,0.5,1]
    python benchmarks/outside_pages.py dispersion NAME RUN... --store STORE [--split S] [--lengths 32:512:32]
    python benchmarks/outside_pages.py page

Measurements go into docs/outside: rows of monitors by run, results of the others by population; measured again, those
of the same name (and run) are replaced. `page` writes the tables between the marks of the pages, and a figure.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genlab.report.monitor import BASELINES, Monitors, draw_contrast, monitor
from genlab.report.output import finite
from genlab.runs.gridfile import parse_range

DOCS = Path(__file__).parents[1] / "docs"
ROWS = DOCS / "outside"
MARKS = ("<!-- tables: python benchmarks/outside_pages.py page -->\n", "<!-- end of tables -->\n")
PAGES = ("monitors", "lines", "items", "constants", "dispersion")
_KEYS = ["population", "run_id"]
_DIGITS = 4

# -- Measuring


def measure_monitors(name: str, args: argparse.Namespace) -> None:
    """Add the rows of some runs; those of the same population and run are replaced."""
    lengths = parse_range(args.lengths, "--lengths", inclusive=True) if args.lengths else None
    splits = args.split.split(",") if args.split else []
    for run in args.runs:
        found = monitor(run, splits, lengths, store=args.store, device="cpu")
        rows = found.rows.round(_DIGITS).assign(population=name)
        old = monitors()
        if len(old):
            same = pd.MultiIndex.from_frame(old[_KEYS]).isin(pd.MultiIndex.from_frame(rows[_KEYS]))
            rows = pd.concat([old[~same], rows], ignore_index=True)
        rows[["population", *found.rows.columns]].to_csv(ROWS / "monitors.csv", index=False)
        print(f"{name}: {run}")


def monitors() -> pd.DataFrame:
    """The committed rows of monitors."""
    path = ROWS / "monitors.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=_KEYS)


def kept(kind: str) -> dict[str, Any]:
    """Population -> committed result."""
    path = ROWS / f"{kind}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def keep(kind: str, found: dict[str, Any]) -> None:
    """Commit results, rounded."""
    text = json.dumps(finite(_rounded({**kept(kind), **found})), indent=1, sort_keys=True)
    (ROWS / f"{kind}.json").write_text(text + "\n", "utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    if isinstance(value, np.generic):
        return _rounded(value.item())
    return round(value, _DIGITS) if isinstance(value, float) else value


def measure_lines(args: argparse.Namespace) -> None:
    """Keep the lines of every population among the runs; the points stay in the store."""
    from genlab.report.lines import lines

    result = lines(args.runs, store=args.store)
    result.draw(DOCS / "figures" / f"lines-{args.name}.png")
    found: dict[str, Any] = {}
    for one in result.populations:
        final = one.points[one.points["final"]]
        ends = {
            f"{name}_{end}": getattr(final[name], end)() for name in ("inside", "outside") for end in ("min", "max")
        }
        whole = {key: value for key, value in one.as_json().items() if key not in ("points", "agreement_points")}
        found[f"{args.name}: {one.place}"] = whole | ends
    keep("lines", found)


def measure_items(args: argparse.Namespace) -> None:
    """Keep how models of items are judged, and what difficulty and directions go with."""
    from genlab.report.items import items

    found = items(args.runs, store=args.store, per_length=args.per_length)
    found.draw(DOCS / "figures" / f"items-{args.name}.png")
    about = {
        "task": found.task,
        "runs": len(found.runs),
        "items": len(found.items),
        "right": found.items["right"].mean(),
    }
    tables = {"judged": found.judged().to_dict("records"), "difficulty": found.difficulty.to_dict("records")}
    keep("items", {args.name: about | tables | {"axis": found.axis}})


def measure_constants(args: argparse.Namespace) -> None:
    """Keep the curve over lengths, and whether distance predicts accuracy."""
    from genlab.report.constant import constants

    lengths = parse_range(args.lengths, "--lengths", inclusive=True) if args.lengths else None
    found = constants(args.runs, (), lengths, [float(x) for x in args.noise.split(",")], args.store, n=args.n)
    found.draw(DOCS / "figures" / f"constants-{args.name}.png")
    keep(
        "constants",
        {args.name: {"summary": found.summary().to_dict("records"), "curve": found.curve().to_dict("records")}},
    )


def measure_dispersion(args: argparse.Namespace) -> None:
    """Keep the curve over lengths, how lines over training lengths hold, and what goes with accuracy."""
    from genlab.report.dispersion import dispersion

    lengths = parse_range(args.lengths, "--lengths", inclusive=True) if args.lengths else None
    splits = args.split.split(",") if args.split else []
    found = dispersion(args.runs, splits, lengths, args.store, n=args.n)
    found.draw(DOCS / "figures" / f"dispersion-{args.name}.png")
    tables = {"summary": found.summary(), "accuracies": found.accuracies(), "curve": found.curve()}
    keep("dispersion", {args.name: {name: table.to_dict("records") for name, table in tables.items()}})


# -- Pages


def _result(rows: pd.DataFrame) -> Monitors:
    return Monitors(rows.drop(columns="population"), pd.DataFrame(), {}, "")


def summary_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The summary of one population of committed rows."""
    return _result(rows).summary()


def tables_of_monitors() -> str:
    """Per population the scores, best first."""
    parts: list[str] = []
    for name, rows in monitors().groupby("population", sort=False):
        found = _result(rows)
        summary = found.summary()
        for row in found.undefined().to_dict("records"):
            own = summary[(summary["task"] == row["task"]) & (summary["split"] == row["split"])]
            parts += [_monitor_table(str(name), row, own)]
    return "\n".join(parts)


def _monitor_table(name: str, missing: dict[str, Any], own: pd.DataFrame) -> str:
    runs, seeds = (int(own[column].max()) if len(own) else 0 for column in ("runs", "seeds"))
    few = f"{missing['too_few']} of {missing['places']} places left out"
    few += f" (in {missing['all_right']} all are right, in {missing['all_wrong']} all are wrong)"
    lines = [f"### {name}: split `{missing['split']}`", "", f"{runs} runs, {seeds} seeds; {few}.", ""]
    if own.empty:
        return "\n".join([*lines[:-2], f"{few}: nothing can be told apart.", ""])
    head = [
        "score",
        "runs",
        "failure",
        "95 %",
        "minus msp",
        "95 %",
        "better",
        "FPR95",
        "excess AURC",
        "AUTC",
        "coverage",
        "risk",
    ]
    lines += [f"| {' | '.join([*head, 'oddness'])} |"]
    lines += ["|---" * 13 + "|"]
    for row in own.sort_values("auroc", ascending=False, kind="stable").to_dict("records"):
        base = row["score"] == "msp"
        cells = [
            f"`{row['score']}`" + (" *" if row["score"] in BASELINES else ""),
            row["runs"],
            _number(row["auroc"]),
            _ends(row, "auroc"),
        ]
        cells += (
            ["", "", ""] if base else [f"{row['gain']:+.3f}", _ends(row, "gain"), f"{row['better']}/{row['seeds']}"]
        )
        cells += [_number(row[x]) for x in ("fpr95", "excess_aurc", "autc", "coverage", "risk", "oddness")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


def tables_of_lines() -> str:
    """One row per population and kind of points; then agreement."""
    heads = ["runs of", "accuracy inside", "outside", "over", "runs", "points", "slope (95 %)", "correlation (95 %)"]
    head = f"| {' | '.join([*heads, 'error: constant, linear, piecewise, inverse', 'best'])} |"
    lines, told = [head, "|---" * 10 + "|"], []
    for name, one in kept("lines").items():
        ends = [f"{one[f'{x}_min']:.3f} to {one[f'{x}_max']:.3f}" for x in ("inside", "outside")]
        for line in one["lines"]:
            errors = ", ".join(
                _number(line["left_out_error"].get(k)) for k in ("constant", "linear", "piecewise", "inverse")
            )
            slope, correlation = (_interval(line[x]) for x in ("slope", "correlation"))
            cells = [name, *ends, line["over"], one["runs"], line["points"], slope, correlation, errors, line["best"]]
            lines.append(f"| {' | '.join(map(str, cells))} |")
        for over, why in one["why_not"].items():
            lines.append(f"| {name} | {' | '.join(ends)} | {over} | {one['runs']} | | no line: {why} | | | |")
        if one["agreement"]:
            cells = [
                name,
                one["runs"],
                *(_mean(one["agreement"][x]) for x in ("inside", "agreement", "aline_s", "aline_d")),
            ]
            told.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "Mean absolute error of accuracy outside as predicted without a label from there (95 %):", ""]
    lines += ["| runs of | runs | accuracy inside | agreement | ALine-S | ALine-D |", "|---" * 6 + "|", *told, ""]
    return "\n".join(lines)


def tables_of_items() -> str:
    """Per population: log losses, difficulty, directions."""
    parts: list[str] = []
    for name, one in kept("items").items():
        parts += [
            f"### {name}",
            "",
            f"{one['task']}, {one['runs']} runs, {one['items']} items, {one['right']:.3f} of all answers right.",
            "",
        ]
        parts += ["| held out | rates | 1pl | 2pl | vectors |", "|---" * 5 + "|"]
        judged = {(row["held_out"], row["model"]): row for row in one["judged"]}
        for held in dict.fromkeys(row["held_out"] for row in one["judged"]):
            cells = [_gain(judged[held, model]) for model in ("rates", "1pl", "2pl", "vectors")]
            parts.append(f"| {held} | {' | '.join(cells)} |")
        parts += [
            "",
            "Spearman's correlation of difficulty (b of `1pl`; norm of `vectors`) with a property of the item:",
            "",
        ]
        parts += [
            f"- {row['property']}: {_signed(row['difficulty'])}; {_signed(row['norm'])}" for row in one["difficulty"]
        ]
        told = [f"`{rule}` {value:.3f}" for rule, value in one["axis"].items()]
        parts += [
            "",
            f"AUROC of the main axis of directions for items on which a rule is right: {', '.join(told)}."
            if told
            else "",
            "",
        ]
    return "\n".join(parts)


def tables_of_constants() -> str:
    """Per population: the curve, then what the distance predicts."""
    parts: list[str] = []
    for name, one in kept("constants").items():
        parts += [
            f"### {name}",
            "",
            "| split | length | noise | | runs | accuracy | distance | relative | mean output |",
            "|---" * 9 + "|",
        ]
        for row in one["curve"]:
            cells = [row["split"], row["length"], f"{row.get('noise', 0):g}", "" if row["outside"] else "trained"]
            cells += [row["runs"], *(_number(row[x]) for x in ("accuracy", "distance", "relative", "mean_output"))]
            parts.append(f"| {' | '.join(map(str, cells))} |")
        for row in one["summary"]:
            within = f"{_signed(row['within'])}{_brackets(row, 'within')} ({row['correlated']} runs)"
            between = (
                "accuracy or distance does not vary"
                if row["between"] is None
                else f"{row['between']:+.2f}, p = {row['between_p']:.2g}"
            )
            told = "-" if row["auroc"] is None else f"{row['auroc']:.3f}, of `msp` {row['auroc_msp']:.3f}"
            parts += ["", f"- Spearman of relative distance and accuracy over the places of a run outside: {within}"]
            parts += [f"- of distance inside and accuracy outside, over {row['runs']} runs: {between}"]
            parts += [f"- AUROC for wrong answers of being close to the constant: {told}", ""]
    return "\n".join(parts)


def tables_of_dispersion() -> str:
    """Lines of all populations; then per population the curve over lengths."""
    head = ["runs of", "runs", "seeds", "measure", "slope inside", "slope outside"]
    errors = ["error of the line", "of no change", "line better"]
    parts = [f"| {' | '.join([*head, *errors])} |", "|---" * 9 + "|"]
    for name, one in kept("dispersion").items():
        for row in one["summary"]:
            cells = [f"{name}: {row['task']}, split `{row['split']}`", row["runs"], row["seeds"], row["measure"]]
            cells += [f"{_signed(row[x])}{_brackets(row, x)}" for x in ("inside", "outside")]
            cells += [_number(row["error"]), _number(row["error_last"]), f"{row['better']}/{row['seeds']}"]
            parts.append(f"| {' | '.join(map(str, cells))} |")
    parts += ["", "Spearman's correlation of the sharpest head's largest weight with accuracy outside:", ""]
    parts += ["| runs of | over lengths of a run (95 %) | runs | at the longest training length, over runs | p |"]
    parts += ["|---" * 5 + "|"]
    for name, one in kept("dispersion").items():
        for row in one["accuracies"]:
            within = f"{_signed(row['within'])}{_brackets(row, 'within')}"
            p = "-" if row["between_p"] is None else f"{row['between_p']:.2g}"
            cells = [f"{name}: {row['task']}", within, row["correlated"], _signed(row["between"]), p]
            parts.append(f"| {' | '.join(map(str, cells))} |")
    for name, one in kept("dispersion").items():
        parts += ["", f"### {name}", ""]
        parts += ["| split | length | | runs | accuracy | keys | largest | effective | spread | sharpest head |"]
        parts += ["|---" * 10 + "|"]
        for row in one["curve"]:
            cells = [row["split"], row["length"], "" if row["outside"] else "trained", row["runs"]]
            cells += [_number(row["accuracy"]), f"{row['keys']:.1f}"]
            cells += [_number(row["largest"]), f"{row['effective']:.1f}", f"{row['spread']:.1f}"]
            parts.append(f"| {' | '.join(map(str, [*cells, _number(row['sharpest'])]))} |")
    return "\n".join([*parts, ""])


def _number(value: float | None) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:+.2f}"


def _ends(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "-" if low is None or pd.isna(low) else f"{low:.2f} to {high:.2f}"


def _brackets(row: dict[str, Any], name: str) -> str:
    ends = _ends(row, name)
    return "" if ends == "-" else f", 95 % {ends}"


def _interval(value: dict[str, Any]) -> str:
    if value["value"] is None:
        return "-"
    ends = "" if value["low"] is None else f" ({value['low']:+.2f} to {value['high']:+.2f})"
    return f"{value['value']:+.2f}{ends}"


def _mean(value: list[float | None]) -> str:
    mean, low, high = value
    return f"{_number(mean)}" + ("" if low is None else f" ({_number(low)} to {_number(high)})")


def _gain(row: dict[str, Any]) -> str:
    if row["model"] == "1pl":
        return f"{row['log_loss']:.3f}"
    ends = "" if row["gain_low"] is None else f", {row['gain_low']:+.3f} to {row['gain_high']:+.3f}"
    return f"{row['log_loss']:.3f} ({row['gain']:+.3f}{ends})"


TABLES = {
    "monitors": tables_of_monitors,
    "lines": tables_of_lines,
    "items": tables_of_items,
    "constants": tables_of_constants,
    "dispersion": tables_of_dispersion,
}


MEASURED = {
    "lines": measure_lines,
    "items": measure_items,
    "constants": measure_constants,
    "dispersion": measure_dispersion,
}


def page(name: str, text: str) -> str:
    """The text of a page with its tables written again."""
    before, rest = text.split(MARKS[0])
    return before + MARKS[0] + "\n" + TABLES[name]() + MARKS[1] + rest.split(MARKS[1])[1]


def draw_monitors(path: Path) -> None:
    """The contrast of failure and oddness, a panel per population and split."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: list[tuple[str, pd.DataFrame]] = []
    for name, rows in monitors().groupby("population", sort=False):
        summary = summary_of(rows)
        panels += [(f"{name}: {split}", own) for split, own in summary.groupby("split", sort=False)]
    figure = Figure(figsize=(5.2 * len(panels), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (title, own) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw_contrast(panel, own)
        panel.set_title(title, fontsize=10, loc="left")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parse, and measure or write."""
    parser = argparse.ArgumentParser(description="Measure runs for the pages, and write their tables.")
    parser.add_argument("what", choices=["monitor", *PAGES[1:], "page"])
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--store")
    parser.add_argument("--split")
    parser.add_argument("--lengths")
    parser.add_argument("--noise", default="0")
    parser.add_argument("--per-length", type=int, default=16)
    parser.add_argument("--n", type=int, default=256)
    args = parser.parse_args()
    if args.what == "page":
        for name in PAGES:
            path = DOCS / f"{name}.md"
            path.write_text(page(name, path.read_text("utf-8")), "utf-8")
        return draw_monitors(DOCS / "figures" / "monitors.png")
    ROWS.mkdir(exist_ok=True)
    if args.what == "monitor":
        return measure_monitors(args.name, args)
    return MEASURED[args.what](args)


if __name__ == "__main__":
    main()
