"""Greedy decoding: the model writes the answer itself, token by token."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from genlab.models import Past, Transformer
from genlab.tasks import Examples, Vocab

__all__ = ["greedy", "greedy_answers"]


@torch.inference_mode()
def greedy(
    model: Transformer,
    prompts: Int[Tensor, "batch prompt"],
    max_new: int,
    offsets: Int[Tensor, "run batch"] | None = None,
    may_end: bool = True,
) -> Int[Tensor, "run batch new"]:
    """The most likely next token, again and again, for prompts of one length.

    Rows that wrote `<end>` are filled with pads; all stop once every row has, or after `max_new` tokens.

    Args:
        may_end: False takes the end token out of the choice (the true length is given).
    """
    runs, batch = model.n_runs, len(prompts)
    past, read = Past(), prompts.expand(runs, -1, -1)
    ended = torch.zeros(runs, batch, dtype=torch.bool, device=prompts.device)
    written: list[Tensor] = []
    for _ in range(max_new):
        last = torch.arange(1, batch + 1, device=prompts.device) * read.shape[-1] - 1
        logits = model(read, offsets, at=last.expand(runs, -1), since=read.shape[-1] - 1, past=past)
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
    model: Transformer, examples: Examples, offsets: np.ndarray, longest: int
) -> list[list[np.ndarray]]:
    """What each run writes after each prompt, up to its end token: `[run][example]` -> ids.

    An answer that never ends is cut where a true sequence has ended. Before its end an answer may hold any token: a
    `<pad>` in it is one that the model chose.

    Args:
        longest: positions of the longest input there may be, prompt and answer (`widest`).
    """
    device = model.flat.device
    prompt_lens = examples.scored.argmax(axis=1) + 1
    answers: list[list[np.ndarray]] = [[np.empty(0, np.int64)] * len(examples) for _ in range(model.n_runs)]
    for prompt_len in np.unique(prompt_lens):
        rows = np.flatnonzero(prompt_lens == prompt_len)
        prompts = torch.from_numpy(examples.tokens[rows, :prompt_len]).to(device)
        starts = torch.from_numpy(offsets[rows]).to(device).expand(model.n_runs, -1)
        written = greedy(model, prompts, int(longest - prompt_len) + 1, starts).cpu().numpy()
        for run in range(model.n_runs):
            for row, ids in zip(rows, written[run], strict=True):
                stop = np.flatnonzero(ids == Vocab.end)
                answers[run][row] = ids[: stop[0]] if len(stop) else ids
    return answers
