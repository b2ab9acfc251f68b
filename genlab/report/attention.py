"""Attention of one run on one prompt and the answer that it writes: weights, and a chart per head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from genlab.errors import UserError
from genlab.report.ask import AskedRun
from genlab.report.charts import Chart, pattern


@dataclass(frozen=True)
class Attention:
    """Attention weights of a run on a prompt and its own answer.

    Attributes:
        run_id: the run.
        prompt: tokens read, a start token included.
        answer: tokens written; the last of them is not read any more.
        weights: float[layer, head, query, key].
    """

    run_id: str
    prompt: tuple[str, ...]
    answer: tuple[str, ...]
    weights: np.ndarray

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of all positions: the axes of `weights`."""
        return (*self.prompt, *self.answer[:-1])

    def charts(self) -> list[Chart]:
        """A chart per head, layer by layer."""
        layers, heads = self.weights.shape[:2]
        return [
            pattern(self.weights[i, j], self.tokens, len(self.prompt), f"layer {i} head {j}", self.answer)
            for i in range(layers)
            for j in range(heads)
        ]


def read_attention(asked: AskedRun, tokens: Sequence[str], length: int | None = None) -> Attention:
    """The attention weights of a run while it answers a prompt.

    Args:
        asked: the run.
        tokens: the prompt, perhaps with the beginning of an answer.
        length: of the example, in the task's unit; by default the shortest that fits.

    Raises:
        UserError: the model has no attention weights, or the prompt is longer than the model.
    """
    found = asked.decode(tuple(tokens), length)
    seen: dict[int, np.ndarray] = {}

    def tap(name: str, x: torch.Tensor) -> torch.Tensor:
        if name.endswith("attn.hook_pattern"):
            seen[int(name.split(".")[1])] = x[0, 0].float().cpu().numpy()
        return x

    with torch.inference_mode():
        asked.model(found.whole, found.offsets, lengths=found.lengths, tap=tap)
    if not seen:
        raise UserError(f"run {asked.run.run_id} has no attention weights: it is a model of another kind")
    vocab = asked.task.vocab.tokens
    read = [vocab[i] for i in found.whole[0, 0, : found.begin].tolist()]
    written = [vocab[i] for i in found.written.tolist()]
    weights = np.stack([seen[layer] for layer in sorted(seen)])
    return Attention(asked.run.run_id, tuple(read), tuple(written), weights)
