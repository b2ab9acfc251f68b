"""Attention patterns of three runs on one in-distribution example, as images of a page."""

from __future__ import annotations

from html import escape

import numpy as np

from genlab.report.html_data import ReportData
from genlab.report.page import figure
from genlab.report.svg import pattern_image

__all__ = ["patterns"]

_LONGEST = 24


def patterns(data: ReportData) -> str:
    """All heads of the best, the median and the worst run by the target, on an example that each was trained for."""
    known = np.flatnonzero(~np.isnan(data.value))
    order = known[np.argsort(data.value[known], kind="stable")]
    picked = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    parts = ["<p>Rows are queries, columns are keys; dark is much attention. One example like those in training.</p>"]
    for name, row in picked.items():
        run = str(data.table.index[row])
        heading = f"{name}: run {run}, {data.measured} {data.value[row]:.3f}"
        parts.append(f'<h3>{escape(heading)}</h3><div class="patterns">{_of_run(data, run)}</div>')
    return "".join(parts)


def _of_run(data: ReportData, run: str) -> str:
    import torch

    from genlab.errors import DamagedFileError
    from genlab.models import Transformer
    from genlab.runs import load

    loaded = load(run, data.store)
    train, task = loaded.spec.train, loaded.task
    lengths = task.lengths_between(train.train_split, train.min_len, min(train.train_len, _LONGEST))
    if not len(lengths):
        return "<p>no training length is short enough to be drawn</p>"
    examples = task.sample(np.random.default_rng(0), train.train_split, [int(lengths[-1])])
    try:
        model = loaded.model
    except (DamagedFileError, FileNotFoundError):
        return "<p>its weights are not there</p>"
    if not isinstance(model, Transformer):
        return "<p>it has no attention heads of this kind</p>"
    seen: dict[str, np.ndarray] = {}

    def tap(name: str, x: torch.Tensor) -> torch.Tensor:
        if name.endswith("attn.hook_pattern"):
            seen[name.split(".")[1]] = x[0, 0].float().numpy()
        return x

    with torch.inference_mode():
        model(torch.from_numpy(np.ascontiguousarray(examples.tokens)), tap=tap)
    text = " ".join(task.vocab.decode(examples.tokens[0]))
    images = [
        figure(pattern_image(head, f"attention of layer {layer} head {i}"), f"layer {layer} head {i}")
        for layer, heads in seen.items()
        for i, head in enumerate(heads)
    ]
    return f'<p class="dim">{escape(text)}</p>' + "".join(images)
