"""`lab reproduce`: list claims with their verdicts, train and judge them, and write rows, figures and the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from genlab import __version__
from genlab.claims.claim import Claim, read_claim
from genlab.claims.folders import checkout, claim_files, find_claim
from genlab.claims.judging import judge
from genlab.claims.measuring import correct_bits, measured_rows
from genlab.claims.rows import Rows, csv_text, write_bits
from genlab.claims.rules import Evaluate, Signal, SignalSteps
from genlab.errors import UserError
from genlab.report.display import print_rows
from genlab.report.output import print_lines
from genlab.report.reproductions import (
    FOLDER,
    NUMBER_HEAD,
    PAGE,
    State,
    draw,
    hours,
    numbers,
    page,
    state_of,
    table_of,
)
from genlab.runs.progress import Progress, Report
from genlab.runs.store import Store
from genlab.spec import Split

Watch = Callable[[Store, list[str]], Report]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def output_folder(given: Path | None) -> Path:
    """The folder of rows and page: the given one, else `docs` of a checkout, else `reproduced`."""
    if given is not None:
        return given
    return checkout() / "docs" if (checkout() / "recipes" / "claims").is_dir() else Path("reproduced")


def all_states(out: Path, folder: Path | None = None) -> list[State]:
    """Return every claim with its committed rows, judged."""
    return [state_of(read_claim(path), out) for path in claim_files(folder).values()]


@dataclass(frozen=True)
class ClaimList:
    """All claims with their verdicts."""

    states: list[State]

    def as_json(self) -> list[dict[str, Any]]:
        """Return one row per claim."""
        return table_of(self.states).to_dict("records")

    def print(self, console: Console) -> None:
        """Print one row per claim: name, verdict, date, cost and statement."""
        rows = [
            [
                s.claim.name,
                s.verdict,
                s.rows.date if s.rows else "-",
                self._cost(s),
                s.claim.paper.split(",")[0],
                s.claim.claim,
            ]
            for s in self.states
        ]
        print_rows(console, ["claim", "verdict", "date", "cost", "paper", "what it says"], rows)
        stale = [f"{s.claim.name}: {note}" for s in self.states for note in s.notes]
        print_lines(console, stale)

    def _cost(self, state: State) -> str:
        return hours(state.claim.cost) + (" (GPU)" if state.claim.gpu else "")


@dataclass(frozen=True)
class Reproduction:
    """Newly judged claims.

    Attributes:
        states: the claims, with rows and verdicts.
        written: the files written.
        left: notes on claims that were left out, with reasons.
    """

    states: list[State]
    written: list[Path]
    left: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return verdicts with their findings, numbers, and files."""
        return {
            "claims": [_as_json(state) for state in self.states],
            "files": [str(path) for path in self.written],
            "left_out": self.left,
        }

    def print(self, console: Console) -> None:
        """Print each claim: its statement, our numbers and the published ones, each rule, and the verdict."""
        for state in self.states:
            judgment = state.judgment
            assert judgment is not None
            print_lines(
                console, [f"{state.claim.name}: {state.claim.claim}", f"{state.claim.paper}, {state.claim.place}"]
            )
            print_rows(console, NUMBER_HEAD, [one.cells() for one in numbers(state)])
            print_lines(console, [f"{f.verdict}: {f.rule} ({f.why})" for f in judgment.findings])
            print_lines(console, state.notes)
            count = f"{judgment.ended} of {judgment.planned} runs, {judgment.fitted} fitted"
            print_lines(console, [f"verdict: {judgment.verdict} ({count})", ""])
        print_lines(console, [*self.left, *(f"written: {path}" for path in self.written)])


def _as_json(state: State) -> dict[str, Any]:
    judgment = state.judgment
    assert judgment is not None
    return {
        "claim": state.claim.name,
        "verdict": judgment.verdict,
        "planned": judgment.planned,
        "ended": judgment.ended,
        "fitted": judgment.fitted,
        "rules": [{"rule": f.rule, "verdict": f.verdict, "why": f.why} for f in judgment.findings],
        "numbers": [
            {
                "measure": one.measure,
                "where": one.where,
                "length": one.length,
                "values": one.values.tolist(),
                "published": one.printed or None,
            }
            for one in numbers(state)
        ],
        "notes": state.notes,
    }


def parse_budget(text: str) -> float:
    """Parse a budget such as `2h`, `30m` or `90s` to seconds.

    >>> parse_budget("1.5h")
    5400.0

    Raises:
        UserError: not a positive number with a unit.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise UserError(f"--budget {text!r} is not allowed (a time above zero, such as 2h, 30m or 90s)")
    return seconds


def _go_on(_progress: Progress) -> bool:
    return True


def reproduce(
    names: Sequence[str],
    store: Store,
    *,
    folder: Path | None = None,
    out: Path,
    check: bool = False,
    device: str = "auto",
    workers: int = 0,
    watch: Watch = lambda _store, _runs: _go_on,
) -> Reproduction:
    """Train and judge claims; with `check`, judge the runs in the store without training.

    Rows, figures and the page are written for claims whose runs have all finished.

    Args:
        names: names of claims, or paths of claim files.
        store: the store of the runs.
        folder: folder of the claim files (default: those included with genlab).
        out: folder of rows and page.
        check: only judge.
        device, workers: as in `genlab.runs.grid`.
        watch: called before training with the store and the runs of a claim; returns a progress callback.

    Raises:
        UserError: an unknown claim, an invalid file, a claim that needs a GPU on a CPU, or (with `check`) a store
            without its runs. Nothing is trained then.
        FailedRuns, Interrupted: see `genlab.runs.grid`.
    """
    claims = [find_claim(name, folder) for name in names]
    for claim in claims:
        _check_possible(claim, store, check, device)
    states: list[State] = []
    written: list[Path] = []
    left: list[str] = []
    for claim in claims:
        if not check:
            _train(claim, store, device, workers, watch(store, [run.run_id for run in claim.runs]))
        states.append(_judged(claim, store))
        if len([run for run in claim.runs if run.run_id in store]) == len(claim.runs):
            written += _write(states[-1], store, out)
        else:
            left.append(f"{claim.name}: not all runs have finished, so no rows were written")
    if written:
        written.append(write_page(out, folder))
    return Reproduction(states, written, left)


def affordable(states: Sequence[State], budget: float | None, cpu: bool) -> tuple[list[str], list[str]]:
    """Return the open claims that fit a budget, cheapest first, and notes on those left out."""
    waiting = sorted((s.claim for s in states if not s.current), key=lambda claim: claim.cost)
    chosen, left, spent = list[str](), list[str](), 0.0
    for claim in waiting:
        if claim.gpu and cpu:
            left.append(f"{claim.name}: needs a GPU")
        elif budget is not None and spent + claim.cost > budget:
            left.append(f"{claim.name}: {hours(claim.cost)} exceed the rest of the budget")
        else:
            chosen.append(claim.name)
            spent += claim.cost
    return chosen, left


def reproduce_all(
    store: Store,
    *,
    budget: float | None = None,
    folder: Path | None = None,
    out: Path,
    check: bool = False,
    device: str = "auto",
    **options: Any,
) -> Reproduction:
    """Reproduce the cheapest open claims that fit the budget; with `check`, judge all that have runs in the store.

    Args:
        store, folder, out, check, device: as in `reproduce`.
        budget: processor seconds, compared with the claims' estimates; None: no limit.
        options: other arguments of `reproduce`.

    Raises:
        UserError: no claim is open, none fits the budget, or the store has no runs of any claim.
    """
    from genlab.runs.devices import pick_device

    states = all_states(out, folder)
    if check:
        chosen = [s.claim.name for s in states if any(run.run_id in store for run in s.claim.runs)]
        left = [f"{s.claim.name}: no runs in the store" for s in states if s.claim.name not in chosen]
    else:
        chosen, left = affordable(states, budget, pick_device(device).type == "cpu")
    if not chosen:
        raise UserError("; ".join(["no claim was run", *left]) if left else "every claim has been judged already")
    done = reproduce(chosen, store, folder=folder, out=out, check=check, device=device, **options)
    return Reproduction(done.states, done.written, [*left, *done.left])


def _check_possible(claim: Claim, store: Store, check: bool, device: str) -> None:
    from genlab.runs.devices import pick_device

    there = sum(run.run_id in store for run in claim.runs)
    if check and not there:
        raise UserError(
            f"store {str(store.path)!r} has none of the {len(claim.runs)} runs of claim {claim.name!r}; "
            "lab reproduce without --check trains them"
        )
    if not check and claim.gpu and pick_device(device).type == "cpu":
        raise UserError(f"claim {claim.name!r} needs a GPU ({hours(claim.cost)} there, estimated)")


def _train(claim: Claim, store: Store, device: str, workers: int, report: Report) -> None:
    """Train the missing runs of a claim, evaluate them, and measure the signals that it uses."""
    from genlab.runs.api import evaluate, grid
    from genlab.runs.diverged import set_aside

    request = {"claim": claim.name}
    grid(
        claim.grid,
        name=f"claim-{claim.name}",
        store=store,
        device=device,
        workers=workers,
        report=report,
        request=request,
    )
    runs, _ = set_aside(store, [run.run_id for run in claim.runs])
    if claim.evaluate:
        evaluate(runs, [_split(one) for one in claim.evaluate], store, device, report)
    _read_signals(claim, store, runs, device)


def _read_signals(claim: Claim, store: Store, runs: Sequence[str], device: str) -> None:
    """Measure the signals that the claim uses: at the last step, and at checkpoints if needed."""
    at_the_end = sorted(
        {one.signal.partition(".")[0] for one in claim.measures if isinstance(one, Signal | SignalSteps)}
    )
    if not at_the_end:
        return
    from genlab.probes.probing import probe
    from genlab.probes.signal import chosen

    probe(store, runs, chosen(at_the_end), device=device, null=False)
    over_steps = sorted({one.signal.partition(".")[0] for one in claim.measures if isinstance(one, SignalSteps)})
    checkpoints = sorted({step for run in runs for step in store.steps(run)[1:-1]}) if over_steps else []
    for step in checkpoints:
        there = [run for run in runs if step in store.steps(run)]
        probe(store, there, chosen(over_steps), step=step, device=device, null=False)


def _split(one: Evaluate) -> Split:
    return Split(name=one.split).at(one.lengths, one.n, one.seed, attn_weights=one.attn_weights)


def _judged(claim: Claim, store: Store) -> State:
    """Measure and judge the runs in the store."""
    table = measured_rows(claim, store)
    there = [run.run_id for run in claim.runs if run.run_id in store]
    date = max(str(store.entry(run)["at"])[:10] for run in there)
    rows = Rows(claim.rule_hash, claim.grid_hash, date, __version__, table)
    return State(claim, rows, judge(claim, table))


def _write(state: State, store: Store, out: Path) -> list[Path]:
    """Write the rows, bits and figure of a claim."""
    assert state.rows is not None
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{state.claim.name}{ending}" for ending in (".csv", ".bits.parquet", ".png")]
    files[0].write_text(csv_text(state.rows), "utf-8")
    write_bits(correct_bits(state.claim, store), files[1])
    draw(state, files[2])
    return files


def write_page(out: Path, folder: Path | None = None) -> Path:
    """Write the page from claim files and committed rows only."""
    path = out / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(all_states(out, folder)), "utf-8")
    return path
