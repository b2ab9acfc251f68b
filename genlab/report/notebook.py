"""`lab notebook`: an executed notebook about one run: attention patterns, heads, sharpness, ablations."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from genlab.errors import UserError
from genlab.report.output import print_lines
from genlab.runs.sources import unavailable
from genlab.runs.store import Store
from genlab.spec import RunSpec
from genlab.tasks import plugins
from genlab.text import counted

_SECONDS = 600
"""Timeout of one cell."""

_KERNEL = """
from ipykernel.iostream import IOPubThread
from ipykernel.kernelapp import launch_new_instance

IOPubThread._setup_pipe_in = lambda self: None  # a TCP port for the output of forked processes; cells fork none
launch_new_instance()
"""
"""Code that starts the kernel of a notebook."""

_OPEN = """\
%matplotlib inline
import numpy as np
import genlab
from genlab.probes import chosen, probe_input
from genlab.probes.plots import ablation, attention, by_head, curves
from genlab.probes.probing import values_of

{plugins}run = genlab.load({run!r}, {store!r})
given = probe_input([run.spec], run.model)
run.evals().query("metric == 'exact_match'")[["split", "length", "value"]].tail(12)"""

_HEADS = """\
def readings(*names):
    found = {}
    for signal in chosen(names):
        try:
            found |= values_of(signal, given)
        except genlab.probes.NotApplicable as why:
            print(f"{signal.name} does not apply: {why}")
    return {name: values[0] for name, values in found.items()}

names = ("previous_token", "duplicate_token", "induction_prefix", "start_token", "positional")
by_head(readings(*names), "what heads do")"""

_SHARPNESS = """\
from genlab.probes.families.sharpness import by_length
from genlab.text import counted

weights = by_length(given, "largest")[0].numpy()  # [layer, head, length]
lines = {f"layer {i} head {j}": weights[i, j] for i, j in np.ndindex(weights.shape[:2])}
lengths = [batch.length for batch in given.batches]
curves(lengths, lines, run.task.length_unit, "largest attention weight", "sharpness within training lengths")"""


def notebook_of(run: str, store: Store, spec: RunSpec, diverged: bool = False) -> Any:
    """Return the notebook about a run, not executed yet; it first says if the run diverged."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    task, model = spec.task, spec.model
    positions = "no" if model.positions == "none" else model.positions
    layers, heads = counted(model.n_layers, "layer"), counted(model.n_heads, "head")
    shape = f"{layers}, {heads}, d_model {model.d_model}, {positions} positions"
    about = f"{task.name} ({task.format}), trained to length {spec.train.train_len}; {shape}."
    about += " It diverged: the weights are from the last step before divergence." if diverged else ""
    cells = [
        new_markdown_cell(f"# Run {run}\n\n{about}"),
        new_code_cell(_OPEN.format(run=run, store=str(store.path.resolve()), plugins=_loading())),
        new_markdown_cell("## Attention patterns\n\nOne in-distribution example of the longest training length."),
        new_code_cell("attention(given)"),
        new_markdown_cell("## Heads\n\nValues are defined in `lab signals`; all are measured in distribution."),
        new_code_cell(_HEADS),
        new_markdown_cell("## Sharpness\n\nThe largest weight at the places of the answer, by length."),
        new_code_cell(_SHARPNESS),
        new_markdown_cell("## Ablations\n\nID exact match without the output of each head."),
        new_code_cell("ablation(given)"),
    ]
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"  # deterministic, unlike nbformat's
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def _loading() -> str:
    """Code that loads the plugins of this process."""
    files = plugins()
    return (
        "".join(["from genlab.tasks import load_plugin\n\n", *(f"load_plugin({f!r})\n" for f in files)])
        if files
        else ""
    )


def execute(notebook: Any, folder: Path) -> None:
    """Execute all cells in place, in a separate kernel.

    Raises:
        UserError: nbclient is not installed, or a cell fails.
    """
    try:
        from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ImportError:
        raise UserError("notebooks need nbclient: pip install 'genlab[notebooks]'") from None

    class OwnKernel(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            del kernel_name
            return KernelSpec(argv=[sys.executable, "-c", _KERNEL, "-f", "{connection_file}"], language="python")

    try:
        # Sockets in a private folder: over TCP, every user of the machine could connect to the kernel.
        with TemporaryDirectory(prefix="genlab-") as sockets:
            place = str(Path(sockets, "kernel.json"))
            kernel = AsyncKernelManager(transport="ipc", connection_file=place, kernel_spec_manager=OwnKernel())
            resources = {"metadata": {"path": str(folder)}}
            NotebookClient(notebook, kernel, timeout=_SECONDS, resources=resources).execute()
    except CellExecutionError as error:
        raise UserError(f"a cell of the notebook failed: {error.ename}: {error.evalue}") from None


@dataclass(frozen=True)
class WrittenNotebook:
    """An executed notebook that was written; `diverged`: whether its run diverged."""

    run: str
    path: Path
    diverged: bool

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"run_id": self.run, "notebook": str(self.path), "diverged": self.diverged}

    def print(self, console: Console) -> None:
        """Where it is."""
        print_lines(console, [str(self.path)])


def write_notebook(run: str, store: Store, path: Path | None) -> WrittenNotebook:
    """Make, execute and write the notebook about a run (default: RUN.ipynb here).

    Raises:
        UserError: no such run, an ambiguous prefix, or a model without attention.
    """
    import nbformat

    from genlab.errors import NotApplicable
    from genlab.probes.model import Stacked
    from genlab.runs.api import load

    found = load(run, store)
    if why := unavailable(store, found.run_id):
        raise UserError(why)
    try:
        Stacked(found.model)
    except NotApplicable as why:
        raise UserError(f"there is nothing to show of run {found.run_id}: {why}") from None
    made = notebook_of(found.run_id, store, found.spec, found.status == "diverged")
    execute(made, Path.cwd())
    place = path or Path(f"{found.run_id}.ipynb")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(made, place)
    except OSError as error:
        raise UserError(f"{str(place)!r} cannot be written: {error.strerror}") from None
    return WrittenNotebook(found.run_id, place, found.status == "diverged")
