"""Which selects of the task's RASP program a model implements: each head's agreement with each select."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genlab.errors import NotApplicable, UserError
from genlab.probes.masses import masses
from genlab.probes.signal import signal

if TYPE_CHECKING:
    from torch import Tensor

    from genlab.probes.inputs import ProbeInput

_THRESHOLD = 0.5


def select_masks(given: ProbeInput) -> dict[str, list[np.ndarray]]:
    """`traced_masks` of all examples; a half gets its own examples, so that both halves have the same selects."""
    names = list(given.root.once("selects", lambda: traced_masks(given.root)))
    if not names:
        return {}

    def stacked_masks(whole: ProbeInput) -> list[np.ndarray]:
        selects = list(whole.once("selects", lambda: traced_masks(whole)).values())
        return [np.stack(of_batch, axis=1) for of_batch in zip(*selects, strict=True)]

    masks = given.whole("select masks", stacked_masks)
    return {name: [of_batch[:, i] for of_batch in masks] for i, name in enumerate(names)}


def traced_masks(given: ProbeInput) -> dict[str, list[np.ndarray]]:
    """The selects of the task's program: name -> one bool[example, query, key] per batch.

    Queries that select every key, or none, are left out, since they do not determine a pattern. Selects that are
    equal on all batches are merged.
    """
    from genlab.rasp.lang.kernels import selection
    from genlab.rasp.programs.registry import best, bind
    from genlab.rasp.running import trace
    from genlab.rasp.tokens import token_map

    name, form, params = given.task()
    try:
        program = bind(best(name, form).program, params)
    except UserError as why:
        raise NotApplicable(str(why)) from None
    values = token_map(given.own_vocab, name, form)
    traced: dict[str, list[np.ndarray]] = {}
    for batch in given.batches:
        graph = trace(program, values.encode(batch.tokens[:, given.start :].cpu().numpy()), keep=True)
        nodes = [node for node in graph.live if node.op == "select"]
        for i, node in enumerate(nodes):
            k, q = (graph.values[parent.id] for parent in node.inputs)
            assert node.func is not None
            mask = selection(k, q, node.func, bool(node.params[0]))
            mask &= np.tril(np.ones(mask.shape[-1], bool))
            partly = mask.any(-1) & (mask.sum(-1) < np.arange(1, mask.shape[-1] + 1))
            mask &= (partly & batch.real[:, given.start :].cpu().numpy())[..., None]
            mask = np.pad(mask, ((0, 0), (given.start, 0), (given.start, 0)))  # the program does not see the start
            label = node.label.removeprefix("select ")
            traced.setdefault(f"{i + 1}-{node.place.via or label}", []).append(mask)
    distinct: dict[bytes, str] = {}
    for label, one in traced.items():
        if any(mask.any() for mask in one) and len(one) == len(given.batches):
            distinct.setdefault(b"".join(np.packbits(mask).tobytes() for mask in one), label)
    return {label: traced[label] for label in distinct.values()}


def agreement(given: ProbeInput) -> dict[str, Tensor]:
    """Select -> float[run, layer, head]: attention on the selected keys relative to uniform; NaN without a query."""
    import torch

    masks = select_masks(given)
    if not masks or not given.cfg.n_layers:
        raise NotApplicable("its program selects no keys on in-distribution examples")
    device = given.batches[0].tokens.device
    layers: list[Tensor] = []
    stacked = [
        torch.from_numpy(np.stack([one[i] for one in masks.values()])).to(device) for i in range(len(given.seen))
    ]
    uniform = [mask.sum(-1) / torch.arange(1, mask.shape[-1] + 1, device=device) for mask in stacked]
    count = sum(mask.any(-1).sum((1, 2)) for mask in stacked)[:, None, None]  # pyright: ignore[reportIndexIssue]
    base = sum(part.sum((1, 2)) for part in uniform)[:, None, None] / count  # pyright: ignore[reportIndexIssue]
    for layer in range(given.cfg.n_layers):
        total = torch.stack([masses(s.pattern(layer), m) for s, m in zip(given.seen, stacked, strict=True)]).sum(0)
        mean = total / count
        layers.append((mean - base) / (1 - base))
    scores = torch.stack(layers, dim=2)  # [select, run, layer, head]
    return dict(zip(masks, scores, strict=True))


@signal(
    "rasp_select",
    per="head",
    about="agreement of a head's pattern with each select of the task's RASP program",
    formula="(m - u) / (1 - u), m the mean attention on the selected keys, u that of uniform attention, over queries "
    "that select some but not all keys",
    blind="Compares patterns only: a head that finds the same keys by index as the program does by content scores "
    "the same. Superposed or multi-layer implementations of a select score low. Near-uniform selects agree "
    "with diffuse heads, so compare with the null.",
    unit="fraction",
    low=float("-inf"),
    high=1,
    source="ours, after the programs of Zhou et al. 2023, arXiv 2310.16028",
)
def rasp_select(given: ProbeInput) -> dict[str, Tensor]:
    return given.once("agreement", lambda: agreement(given))


@signal(
    "rasp_selects_found",
    per="run",
    about="fraction of the selects of the task's RASP program that the model's heads implement",
    formula=f"fraction of the program's selects whose best head has an agreement (rasp_select) of at least "
    f"{_THRESHOLD}; the head is chosen on one half of the examples and read on the other, both ways, and averaged",
    blind="A threshold on rasp_select, with its blind spots; models can implement another program than ours.",
    unit="fraction of selects",
    low=0,
    high=1,
    source="ours",
    version=2,
)
def rasp_selects_found(given: ProbeInput) -> Tensor:
    import torch

    from genlab.probes.probing import cross_fitted

    def scores(half: ProbeInput) -> np.ndarray:
        by_select = half.once("agreement", lambda: agreement(half))
        return torch.stack(list(by_select.values())).flatten(2).double().cpu().numpy()  # [select, run, head]

    first, second = cross_fitted(*map(scores, given.halves))
    return torch.from_numpy(((first + second) / 2 >= _THRESHOLD).mean(0))
