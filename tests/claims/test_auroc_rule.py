"""The rule that an outcome is forecast as well as in print: planted runs whose ranking is known."""

from __future__ import annotations

import numpy as np
import pytest
from planted_claims import HEAD, MEASURES, claim_with, rows_of
from sklearn.metrics import roc_auc_score

from genlab.claims.forecasting import auroc_of
from genlab.claims.judging import judge, runs_of
from genlab.claims.rules import Auroc
from genlab.errors import UserError

SEEDS, LAYERS = 16, range(7)
MANY = HEAD.replace('"100:104"', f'"100:{100 + SEEDS}"').replace("[0, 1]", str(list(LAYERS)))
HINT = MEASURES.replace("\n[fitted]", '\n[[measure]]\nname = "hint"\nreads = "evaluation"\nlengths = [8]\n\n[fitted]')
RULE = """
[[rule]]
kind = "auroc"
measure = "score"
at_least = 0.5
held_out = "{held_out}"
by = {by}
model = "{model}"
printed = {printed}
widest = {widest}
"""


def rule(held_out: str, printed: float, by: str = '["hint"]', model: str = "threshold", widest: float = 0.4) -> str:
    return RULE.format(held_out=held_out, by=by, model=model, printed=printed, widest=widest)


def planted(rise: float, noise: float, seed: int = 0) -> dict[str, dict[int, list[object]]]:
    """Scores, of which `rise` is the part that rises with layers, and hints, which are scores with noise."""
    rng = np.random.default_rng(seed)
    score = {n: rise * (n - 3) / 6 + rng.normal(0.5, 0.2, SEEDS) for n in LAYERS}
    hint = {n: own + rng.normal(0, noise, SEEDS) for n, own in score.items()}
    ones = {n: [1.0] * SEEDS for n in LAYERS}
    return {"trained": ones, "score": {n: [*v] for n, v in score.items()}, "hint": {n: [*v] for n, v in hint.items()}}


CASES = [
    ("a hint that is the outcome", rule("runs", 1.0), (0.0, 0.0), "pass"),
    ("a hint that is the outcome, printed lower", rule("runs", 0.9), (0.0, 0.0), "fail"),
    ("a noisy hint", rule("runs", 0.8), (0.0, 0.2), "pass"),
    ("a noisy hint, printed at chance", rule("runs", 0.5), (0.0, 0.2), "fail"),
    ("too wide an interval", rule("runs", 0.8, widest=0.05), (0.0, 0.2), "undecided"),
    ("settings tell on runs", rule("runs", 0.95, "[]", "linear"), (1.2, 0.0), "pass"),
    ("settings tell nothing within settings", rule("settings", 0.95, "[]", "linear"), (0.3, 0.0), "fail"),
    ("a hint tells on new settings", rule("settings", 0.85), (0.3, 0.2), "pass"),
]


@pytest.mark.parametrize(("text", "how", "verdict"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_rule_on_planted_runs(text: str, how: tuple[float, float], verdict: str):
    claim = claim_with(text, MANY, HINT)
    judgment = judge(claim, rows_of(claim, planted(*how)))
    assert judgment.verdict == verdict, judgment.findings


def test_within_settings_it_is_the_mean_of_scikit_learns():
    """A hint that rises with the outcome ranks as it is, so that nothing but the split is left to compute."""
    claim = claim_with(rule("settings", 0.8), MANY, HINT)
    values = planted(0.2, 0.2)
    found = auroc_of(_rule(claim), runs_of(claim, rows_of(claim, values)))
    rows = [(np.array(values["score"][n]) >= 0.5, np.array(values["hint"][n])) for n in LAYERS]
    # Settings share seeds, so each is tested in two parts, and pairs are compared within a part.
    parts = [_in_parts(yes, hint, claim) for yes, hint in rows]
    assert found.value == pytest.approx(np.mean(parts))
    assert 0.6 < found.value < 0.95


def _rule(claim) -> Auroc:
    (one,) = claim.rules
    assert isinstance(one, Auroc)
    return one


def _in_parts(yes: np.ndarray, hint: np.ndarray, claim) -> float:
    from genlab.claims.forecasting import _SEED
    from genlab.forecast.splits import dealt

    half = dealt(np.arange(SEEDS), 2, np.random.default_rng(_SEED))
    pairs = [(yes[half == i].sum() * (~yes[half == i]).sum(), i) for i in (0, 1)]
    total = sum(weight * roc_auc_score(yes[half == i], hint[half == i]) for weight, i in pairs if weight)
    return total / sum(weight for weight, _ in pairs)


def test_where_every_run_has_the_outcome_it_is_undecided():
    claim = claim_with(rule("settings", 0.8), MANY, HINT)
    values = planted(0.0, 0.1)
    values["score"] = {n: [1.0] * SEEDS for n in LAYERS}
    judgment = judge(claim, rows_of(claim, values))
    assert (judgment.verdict, judgment.findings[0].why) == ("undecided", "no setting has both outcomes")


def test_a_run_without_the_hint_leaves_it_undecided():
    claim = claim_with(rule("runs", 0.8), MANY, HINT)
    rows = rows_of(claim, planted(0.0, 0.2))
    rows = rows[~((rows["measure"] == "hint") & (rows["n_layers"] == 3))]
    judgment = judge(claim, rows)
    assert (judgment.verdict, judgment.findings[0].why) == ("undecided", "16 of 112 runs have no hint")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (rule("runs", 0.8, '["hnit"]'), "unknown measure 'hnit'; did you mean 'hint'?"),
        (rule("runs", 0.8, '["score"]'), "auroc cannot forecast 'score' by 'score'"),
        (rule("runs", 0.8, '["curve"]'), "auroc cannot forecast 'score' by 'curve'"),
        (rule("runs", 0.8, "[]"), "model threshold cuts one measure"),
    ],
)
def test_a_wrong_rule_is_told(text: str, said: str):
    with pytest.raises(UserError) as error:
        claim_with(text, MANY, HINT)
    assert said in str(error.value)
