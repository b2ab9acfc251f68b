"""A small claim whose parts tests exchange, and tables of rows with planted values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from genlab.claims.claim import Claim, parse_claim, setting_of

HEAD = """
paper = "Nobody 2020, Nothing, arXiv 0000.00000"
place = "table 1"
claim = "More layers are better."
scale = "tiny"
cost = 5

[grid.base]
task = "and-fixed-bits"
format = "plain"
start_token = false
train_len = 8
min_len = 8
max_len = 8
d_model = 16
n_heads = 1
positions = "none"
init_std = 0.1
scale_residual_init = true
tie_word_embeddings = false
steps = 60
batch_size = 32
lengths_per_batch = 1
optimizer = "adamw"
lr = 1e-2
warmup = 0
schedule = "cosine"
weight_decay = 0.01
decay = "matrices"
grad_clip = 0.0
eval_every = 20

[grid.sweep]
n_layers = [0, 1]

[grid.seeds]
together = "100:104"

[grid.evals]
splits = ["fixed-zero"]
n = 64
"""

MEASURES = """
[[evaluate]]
split = "any-zero"
lengths = [6, 7, 8]
n = 32
attn_weights = "adaptive"

[[measure]]
name = "trained"
reads = "evaluation"
lengths = [8]

[[measure]]
name = "score"
reads = "evaluation"
split = "fixed-zero"
lengths = [8]

[[measure]]
name = "curve"
reads = "evaluation"
split = "any-zero"
lengths = [6, 7, 8]
by_length = true
attn_weights = "adaptive"

[fitted]
measure = "trained"
at_least = 0.9
"""

FIRST_RULE = """
[[rule]]
kind = "all"
measure = "score"
at_least = 0.5
"""


def claim_with(rules: str, head: str = HEAD, measures: str = MEASURES) -> Claim:
    """The small claim with these rules."""
    return parse_claim(head + measures + rules, "planted.toml")


def rows_of(claim: Claim, values: Mapping[str, Mapping[int, Sequence[object]]], lost: int = 0) -> pd.DataFrame:
    """Rows with planted values.

    Args:
        values: measure -> n_layers -> one value per seed, or length -> value for a measure by length. `trained` is 1
            unless it is given; "diverged" in its place is a run that diverged.
        lost: leave out this many of the last runs.
    """
    rows: list[dict[str, object]] = []
    seen: dict[int, int] = {}
    for spec in claim.runs[: len(claim.runs) - lost]:
        layers = int(setting_of(spec, "n_layers"))
        i = seen[layers] = seen.get(layers, -1) + 1
        trained = values.get("trained", {}).get(layers, [1.0] * 10)[i]
        about = {"run_id": spec.run_id, "init_seed": spec.train.init_seed, "data_seed": spec.train.data_seed}
        about |= {"n_layers": layers, "seconds": 1.0, "fitted": True}
        about["status"] = "diverged" if trained == "diverged" else "finished"
        own: dict[tuple[str, int | None], object] = {("trained", None): None if trained == "diverged" else trained}
        for measure, by_layers in values.items():
            if measure != "trained" and layers in by_layers:
                value = by_layers[layers][i]
                pairs = value.items() if isinstance(value, dict) else [(None, value)]
                own |= {(measure, length): number for length, number in pairs}
        rows += [{**about, "measure": m, "length": n, "value": v} for (m, n), v in own.items()]
    frame = pd.DataFrame(rows)
    return frame.astype({"length": "Int64", "value": float})
