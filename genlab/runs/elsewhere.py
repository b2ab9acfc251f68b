"""Tasks for those who train elsewhere: batches as a torch dataset, examples as a Parquet file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from genlab.errors import UserError
from genlab.runs.plan import default_lengths, defaults_of, own_params_beside, plan
from genlab.spec import RunSpec, Scalar
from genlab.tasks import Examples, Task, Vocab, make
from genlab.tasks import spec as task_spec
from genlab.training.batches import Stream

IGNORED = -100
"""The target that `torch.nn.functional.cross_entropy` ignores by default."""

# -- Batches for a training loop of one's own


class Batches(IterableDataset[dict[str, Tensor]]):
    """The training batches of a task: the examples that a run with this seed is trained on, without end.

    A batch is a dict of `tokens`, int64[batch, pos], padded on the right with 0; `targets`, int64[batch, pos], the
    next token where it is part of the answer or its `<end>`, elsewhere -100; and `lengths`, int64[batch]. It depends
    on the options and its number alone, however many workers make batches.

    Attributes:
        spec: the run that would see these batches; task: its task; vocab: token strings and ids.
        n_ctx: positions that a model needs up to the longest test length.
    """

    def __init__(self, spec: RunSpec, steps: int | None = None):
        """`steps`: how many batches; None: without end."""
        self.spec, self.steps, self.task = spec, steps, make(spec.task)
        self.vocab: Vocab = self.task.vocab
        self.n_ctx = self.task.n_ctx
        self._stream = Stream(self.task, spec.train)

    def batch(self, step: int) -> dict[str, Tensor]:
        """The batch of a step, counted from 0."""
        examples = self._stream.batch(step)
        if examples.values is not None:
            raise UserError(f"task {self.task.name!r} has real values in this format, not tokens")
        trained = examples.scored if examples.trained is None else examples.trained
        if self.spec.train.loss == "all":
            trained = examples.targets != Vocab.pad
        arrays = (examples.tokens, np.where(trained, examples.targets, IGNORED), examples.lengths)
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        return dict(zip(("tokens", "targets", "lengths"), tensors, strict=True))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Batches in order; each worker of a `DataLoader` makes its share of them."""
        worker = get_worker_info()
        step, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        while self.steps is None or step < self.steps:
            yield self.batch(step)
            step += stride


def batches(
    task: str,
    train_len: int | None = None,
    test_len: int | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    **options: Any,
) -> Batches:
    """The training batches of a task, as a torch `IterableDataset` for a training loop of one's own.

    Give it to `torch.utils.data.DataLoader(..., batch_size=None)`, or iterate over it.

    Args:
        task, train_len, test_len: as in `genlab.plan`; the vocabulary and `n_ctx` reach to `test_len`.
        seed: the data seed of the run that would see these batches.
        steps: how many batches (default: without end).
        options: further ones of `genlab.plan` about the data: format, params, batch_size, min_len, curriculum, pool.

    Raises:
        UserError: an unknown task or option, or a length that the task cannot make.

    Example:
        >>> first = next(iter(batches("sort", 5, batch_size=2)))
        >>> first["tokens"].shape == first["targets"].shape
        True
    """
    if steps is not None and steps < 1:
        raise UserError(f"steps {steps} is not allowed: it is at least 1")
    return Batches(plan(task, train_len, test_len, seeds=[seed], **options).specs[0], steps)


# -- Examples as a file

_MOST = 100_000_000
"""Examples of a split in a file: their lengths are drawn at once."""
_CHUNK = 10_000
_SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("length", pa.int64()),
        ("split", pa.string()),
        ("task", pa.string()),
    ]
)


@dataclass(frozen=True)
class Exported:
    """A file of examples: where, how many, of what lengths on each split."""

    file: Path
    rows: int
    lengths: Mapping[str, tuple[int, int]]

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {"file": str(self.file), "rows": self.rows, "lengths": {k: list(v) for k, v in self.lengths.items()}}

    def print(self, console: Any) -> None:
        """A line."""
        parts = [f"split {split}, lengths {low} to {high}" for split, (low, high) in self.lengths.items()]
        console.print(
            f"{self.rows:,} rows: {self.file} ({'; '.join(parts)})", soft_wrap=True, highlight=False, markup=False
        )


def export(
    task: str,
    out: str | Path,
    n: int = 10_000,
    *,
    splits: Sequence[str] = ("id",),
    lengths: Sequence[int] | None = None,
    format: str | None = None,
    params: Mapping[str, Scalar] | None = None,
    max_len: int | None = None,
    seed: int = 0,
) -> Exported:
    """Write examples of a task as a Parquet file with columns prompt, answer, length, split, task.

    Prompt and answer are space-separated tokens, the answer without `<end>`; `datasets.load_dataset("parquet",
    data_files=...)` reads the file. It appears whole or not at all.

    Args:
        out: the file, which ends in .parquet.
        n: examples of each split; the same n, seed and options give the same file.
        splits: which splits.
        lengths: equally likely lengths (default: the task's own training lengths, as often as training draws them).
        max_len: the length that the vocabulary is made for (default: the longest of all).

    Raises:
        UserError: an unknown task, split or length, or a file that cannot be written.
    """
    file = Path(out)
    if file.suffix != ".parquet":
        raise UserError(f"--out {str(out)!r} is not allowed (allowed: names that end in .parquet)")
    if not 1 <= n <= _MOST or seed < 0:
        raise UserError(f"-n {n} --seed {seed} is not allowed: -n is 1 to {_MOST:,}, --seed at least 0")
    made, laws = _laws(task, splits, lengths, format, params, max_len)
    if made.d_values:
        raise UserError(f"format {made.format!r} of task {task!r} has real values, not tokens")
    part = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(part, _SCHEMA) as writer:
            for number, (split, (known, weights)) in enumerate(laws.items()):
                rng = np.random.default_rng([seed, number])
                drawn = rng.choice(known, size=n, p=weights)
                for start in range(0, n, _CHUNK):
                    examples = made.sample(rng, split, drawn[start : start + _CHUNK])
                    writer.write_table(_table(made, examples, split))
        part.replace(file)
    except OSError as error:
        raise UserError(f"--out {str(out)!r} cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    ends = {split: (int(known.min()), int(known.max())) for split, (known, _) in laws.items()}
    return Exported(file, n * len(laws), ends)


def _laws(
    task: str,
    splits: Sequence[str],
    lengths: Sequence[int] | None,
    format: str | None,
    params: Mapping[str, Scalar] | None,
    max_len: int | None,
) -> tuple[Task, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The task, and the lengths of each split with their probabilities."""
    given: dict[str, Scalar] = dict(params or {})
    if lengths is None:
        defaults = defaults_of(task, format)
        longest = default_lengths(task, defaults)[0]
        given = {**own_params_beside(defaults.get("params", {}), given), **given}
    else:
        longest = max(lengths)
    made = make(task_spec(task, max_len or longest, format, given))
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for split in splits:
        if lengths is None:
            found[split] = made.length_law(split, 0, longest)
        else:
            made.check_lengths(split, lengths)
            known = np.array(sorted(set(lengths)))
            found[split] = (known, np.full(len(known), 1 / len(known)))
    return made, found


def _table(task: Task, examples: Examples, split: str) -> pa.Table:
    pairs = [task.read(examples, row) for row in range(len(examples))]
    columns = {
        "prompt": [" ".join(prompt) for prompt, _ in pairs],
        "answer": [" ".join(answer) for _, answer in pairs],
        "length": examples.lengths.tolist(),
        "split": [split] * len(pairs),
        "task": [task.name] * len(pairs),
    }
    return pa.table(columns, _SCHEMA)
