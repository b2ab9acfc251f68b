"""Attention of one run on one prompt and its own answer: weights, and one chart per head."""

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
        prompt: tokens of the prompt, including a start token.
        answer: generated tokens; the last one is never read.
        weights: float[layer, head, query, key].
    """

    run_id: str
    prompt: tuple[str, ...]
    answer: tuple[str, ...]
    weights: np.ndarray

    @property
    def tokens(self) -> tuple[str, ...]:
        """The token at each position, along the axes of `weights`."""
        return (*self.prompt, *self.answer[:-1])

    def charts(self) -> list[Chart]:
        """Return one chart per head, layer by layer."""
        layers, heads = self.weights.shape[:2]
        return [
            pattern(self.weights[i, j], self.tokens, len(self.prompt), f"layer {i} head {j}", self.answer)
            for i in range(layers)
            for j in range(heads)
        ]


def read_attention(asked: AskedRun, tokens: Sequence[str], length: int | None = None) -> Attention:
    """Return the attention weights of a run while it answers a prompt.

    Args:
        asked: the run.
        tokens: the prompt, optionally with the beginning of an answer.
        length: length of the example, in the task's unit (default: the shortest that fits).

    Raises:
        UserError: the model has no attention weights, or the prompt is longer than the context.
    """
    decoded = asked.decode(tuple(tokens), length)
    seen: dict[int, np.ndarray] = {}

    def tap(name: str, x: torch.Tensor) -> torch.Tensor:
        if name.endswith("attn.hook_pattern"):
            seen[int(name.split(".")[1])] = x[0, 0].float().cpu().numpy()
        return x

    with torch.inference_mode():
        asked.model(decoded.whole, decoded.offsets, lengths=decoded.lengths, tap=tap)
    if not seen:
        raise UserError(f"run {asked.run.run_id} has no attention weights: it is not a transformer")
    vocab = asked.task.vocab.tokens
    read = [vocab[i] for i in decoded.whole[0, 0, : decoded.begin].tolist()]
    written = [vocab[i] for i in decoded.written.tolist()]
    weights = np.stack([seen[layer] for layer in sorted(seen)])
    return Attention(asked.run.run_id, tuple(read), tuple(written), weights)
