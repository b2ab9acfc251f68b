"""Greedy decoding: the model writes the answer itself, token by token."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from genlab.models import Past, StackedModel
from genlab.tasks import Examples, Vocab

__all__ = ["greedy", "greedy_answers"]


@torch.inference_mode()
def greedy(
    model: StackedModel,
    prompts: Int[Tensor, "batch prompt"],
    max_new: int,
    offsets: Int[Tensor, "run batch"] | Int[Tensor, "run batch reach"] | None = None,
    may_end: bool = True,
    lengths: Int[Tensor, "run batch"] | None = None,
) -> Int[Tensor, "run batch new"]:
    """The most likely next token, again and again, for prompts of one length.

    Rows that wrote `<end>` are filled with pads; all stop once every row has, or after `max_new` tokens.

    Args:
        offsets: position of each example's first token, or of every token that may be read.
        may_end: False takes the end token out of the choice (the true length is given).
        lengths: each example's own length.
    """
    runs, batch = model.n_runs, len(prompts)
    past, read = Past(), prompts.expand(runs, -1, -1)
    ended = torch.zeros(runs, batch, dtype=torch.bool, device=prompts.device)
    written: list[Tensor] = []
    for _ in range(max_new):
        last = torch.arange(1, batch + 1, device=prompts.device) * read.shape[-1] - 1
        at = last.expand(runs, -1)
        logits = model(read, offsets, at=at, since=read.shape[-1] - 1, past=past, lengths=lengths)
        if not may_end:
            logits[..., Vocab.end] = float("-inf")
        token = logits.argmax(-1).masked_fill(ended, Vocab.pad)
        written.append(token)
        ended = ended | (token == Vocab.end)
        if bool(ended.all()):
            break
        read = token[..., None]
    return torch.stack(written, dim=-1)


def greedy_answers(
    model: StackedModel, examples: Examples, offsets: np.ndarray, longest: np.ndarray
) -> list[list[np.ndarray]]:
    """What each run writes after each prompt, up to its end token: `[run][example]` -> ids.

    An answer that never ends is cut where a true sequence has ended. Before its end an answer may hold any token: a
    `<pad>` in it is one that the model chose.

    Args:
        longest: int[n], positions of the longest input of each example's length, prompt and answer (`widths`).
    """
    device = model.flat.device
    prompt_lens = examples.scored.argmax(axis=1) + 1
    answers: list[list[np.ndarray]] = [[np.empty(0, np.int64)] * len(examples) for _ in range(model.n_runs)]
    for prompt_len, reach in np.unique(np.stack([prompt_lens, longest], axis=1), axis=0):
        rows = np.flatnonzero((prompt_lens == prompt_len) & (longest == reach))
        prompts = torch.from_numpy(examples.tokens[rows, :prompt_len]).to(device)
        starts, lengths = (
            torch.from_numpy(x[rows]).to(device).expand(model.n_runs, *x[rows].shape)
            for x in (offsets, examples.lengths)
        )
        written = greedy(model, prompts, int(reach - prompt_len) + 1, starts, lengths=lengths).cpu().numpy()
        for run in range(model.n_runs):
            for row, ids in zip(rows, written[run], strict=True):
                stop = np.flatnonzero(ids == Vocab.end)
                answers[run][row] = ids[: stop[0]] if len(stop) else ids
    return answers
