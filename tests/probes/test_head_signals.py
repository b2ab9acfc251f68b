"""Head signals on models whose mechanism is known: the ideal value, worked out by hand, or the chance value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hand_models import (
    batch_of,
    blank,
    given_for,
    induction_pair,
    part,
    repeated,
    set_previous_token,
    shape,
    sign_matching,
    with_patterns,
)

import genlab
from genlab.errors import UserError
from genlab.models import Transformer, initial
from genlab.probes import NotApplicable, ProbeInput, chosen, hooked_input, probe_batches, probe_input
from genlab.probes.families.induction import random_pairs
from genlab.probes.inputs import Batch
from genlab.probes.model import Stacked
from genlab.probes.probing import values_of
from genlab.spec import ModelConfig, RunSpec
from genlab.tasks import Examples, make


def value(name: str, given: ProbeInput) -> np.ndarray:
    """The values of one signal, [run, layer, head] or less."""
    return values_of(chosen([name])[0], given)[name]


def spec_of(task: str, train_len: int, **options: object) -> RunSpec:
    return genlab.plan(task, train_len, train_len, seeds=[0], steps=0, **options).specs[0]


def untrained(spec: RunSpec, runs: int = 2) -> ProbeInput:
    specs = [spec.with_seeds(seed, seed) for seed in range(runs)]
    return probe_input(specs, Transformer(spec.model, initial(spec.model, range(runs))))


# -- previous token, start, uniform ---------------------------------------------------------------------------------


def test_an_exact_previous_token_head():
    model = blank(shape(6, 8, extra=6, d_head=8))
    set_previous_token(model)
    given = given_for(model, batch_of(repeated(5, 1, 6)))
    scores = value("previous_token", given)
    assert scores[0, 0, 0] == pytest.approx(1.0, abs=1e-6)
    assert value("previous_token_mul", given)[0, 0, 0] == pytest.approx(4 / 5)  # the first query has only itself
    # Layer 1 has no weights: uniform over 2, 3, 4, 5 keys.
    assert scores[0, 1, 0] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4)
    assert value("start_token", given)[0, 1, 0] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4)
    assert value("start_token", given)[0, 0, 0] == pytest.approx(1 / 4)  # query 1 alone
    assert value("positional", given)[0] == pytest.approx(np.ones((2, 1)), abs=1e-6)


def test_duplicates_and_content():
    """One head attends to the same token evenly, itself included: of k such keys, k - 1 are earlier."""
    model = blank(shape(4, 12, extra=0, d_head=4, n_layers=1))
    part(model, 0, "Q")[:4, :4] = torch.eye(4) * 60
    part(model, 0, "K")[:4, :4] = torch.eye(4) * 2
    given = given_for(model, batch_of(torch.tensor([[0, 1, 2, 0, 0, 1]])))
    # Queries 3, 4, 5 have 1, 2, 1 earlier ones: 1/2, 2/3, 1/2.
    assert value("duplicate_token", given)[0, 0, 0] == pytest.approx((1 / 2 + 2 / 3 + 1 / 2) / 3)
    assert value("duplicate_token_mul", given)[0, 0, 0] == pytest.approx((1 / 2 + 2 / 3 + 1 / 2) / 6)
    rng = torch.Generator().manual_seed(0)
    many = given_for(model, batch_of(torch.randint(4, (400, 12), generator=rng)))
    assert value("positional", many)[0, 0, 0] < 0.6  # position decides how many keys there are, content which


# -- induction: three readings that differ --------------------------------------------------------------------------


def test_two_copies():
    """Each token of the second copy finds what followed it; the first copy rests on the first token."""
    given = given_for(induction_pair(10, 20), batch_of(repeated(10, 2, 10)))
    assert value("induction_mul", given)[0, 1, 0] == pytest.approx(0.5, abs=1e-4)
    assert value("induction_mul_no_first", given)[0, 1, 0] == pytest.approx(1.0, abs=1e-4)
    for reading in ("induction_latest", "induction_prefix"):
        assert value(reading, given)[0, 1, 0] == pytest.approx(1.0, abs=1e-4)
        assert value(reading, given)[0, 0, 0] < 0.15  # the previous-token head is none


def test_a_head_spread_over_four_copies():
    """25 different tokens 4 times."""
    given = given_for(induction_pair(28, 100), batch_of(torch.zeros(1, 2, dtype=torch.int64)))
    assert value("random_induction_prefix", given)[0, 1, 0] == pytest.approx(1.0, abs=1e-4)
    assert value("random_induction_mul", given)[0, 1, 0] == pytest.approx(0.75, abs=1e-4)
    assert value("random_induction_mul_no_first", given)[0, 1, 0] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("n_ctx", [60, 16])
def test_the_diagonal_of_repeated_random_text_is_that_of_the_paper(n_ctx: int):
    """Song et al.: without the first token, rows summing to 1, the diagonal -(period - 1) but for its first entry."""
    cfg = ModelConfig(d_vocab=12, n_ctx=n_ctx, n_layers=2, d_model=16, n_heads=2, init_std=0.6)
    given = given_for(Transformer(cfg, initial(cfg, [3, 4])), batch_of(torch.zeros(1, 2, dtype=torch.int64)))
    seen = random_pairs(given)
    texts, pos = seen.batch.tokens.shape
    period = min(25, n_ctx // 2)
    assert (texts, pos) == (50, 2 * period)
    assert torch.equal(seen.batch.tokens[:, :period], seen.batch.tokens[:, period:])
    assert len(seen.batch.tokens[:, :period].unique()) == 12 - 3  # independent draws of all symbols, no special token
    wanted = np.zeros((2, 2, 2))
    for run, layer, head in np.ndindex(2, 2, 2):
        scores = []
        for A in seen.pattern(layer)[run, :, head].double().numpy():
            adjusted = np.zeros((pos, pos))
            for i in range(1, pos):
                adjusted[i, 1:] = A[i, 1:] / sum(A[i, j] + 1e-6 for j in range(1, pos))
            scores.append(np.mean([adjusted[k + period - 1, k] for k in range(1, pos - period + 1)]))
        wanted[run, layer, head] = np.mean(scores)
    assert value("random_induction_diagonal", given) == pytest.approx(wanted, abs=1e-9)


def test_what_rests_on_the_first_token_does_not_count_on_the_diagonal():
    """Half of all attention moved to the first token: the score stays as it was."""
    given = given_for(induction_pair(28, 100), batch_of(torch.zeros(1, 2, dtype=torch.int64)))
    before = value("random_induction_diagonal", given)
    for layer in range(2):
        pattern = random_pairs(given).pattern(layer)
        pattern /= 2
        pattern[..., 0] += 0.5
    found = value("random_induction_diagonal", given)
    assert found == pytest.approx(before, abs=1e-3)
    assert found[0, 1, 0] > 0.6 > found[0, 0, 0]


def test_only_the_right_continuation_counts_at_scored_places():
    """a b a c a: the last a was followed by b, then by c; c is right. The head is split evenly."""
    tokens = torch.tensor([[0, 1, 0, 2, 0]])
    scored = torch.zeros_like(tokens, dtype=torch.bool)
    scored[0, 4] = True
    batch = batch_of(tokens, scored=scored)
    batch = Batch(5, tokens, torch.tensor([[1, 0, 2, 0, 2]]), batch.real, scored, None)
    given = given_for(induction_pair(4, 8), batch)
    assert value("induction_scored", given)[0, 1, 0] == pytest.approx(0.5, abs=1e-4)
    assert value("induction_latest", given)[0, 1, 0] == pytest.approx((1 + 0.5) / 2, abs=1e-4)  # queries 2 and 4


def test_random_weights_give_chance():
    """Patterns of untrained models are near uniform, so that a mask gets its share of keys."""
    spec = spec_of("copy", 10)
    given = untrained(spec)
    for name in ("previous_token", "duplicate_token", "induction_prefix", "start_token", "end_token"):
        flat = with_patterns(untrained(spec), lambda b: torch.ones(len(b.tokens), *[b.tokens.shape[1]] * 2).tril()
                             / torch.arange(1, b.tokens.shape[1] + 1)[:, None])  # fmt: skip
        assert value(name, given).mean() == pytest.approx(value(name, flat).mean(), abs=0.03), name
    assert abs(value("copying_eigenvalues", given).mean()) < 0.35
    assert value("copying_logits", given).mean() == pytest.approx(0.5, abs=0.15)


# -- TransformerLens agrees ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        ("previous_token_mul", "previous_token_head", {}),
        ("duplicate_token_mul", "duplicate_token_head", {}),
        ("induction_mul", "induction_head", {}),
        ("induction_mul_no_first", "induction_head", {"exclude_bos": True}),
    ],
)
def test_scores_equal_those_of_detect_head(ours: str, theirs: str, options: dict[str, bool]):
    pytest.importorskip("transformer_lens")
    from transformer_lens.head_detector import detect_head

    from genlab.models import as_hooked

    cfg = ModelConfig(d_vocab=7, n_ctx=20, n_layers=2, d_model=16, n_heads=2, init_std=0.6)
    model = Transformer(cfg, initial(cfg, [3]))
    tokens = torch.randint(7, (3, 12), generator=torch.Generator().manual_seed(0))
    hooked = as_hooked(model)
    wanted = []
    for row in tokens:
        _, cache = hooked.run_with_cache(row[None], remove_batch_dim=True)
        wanted.append(detect_head(hooked, " ".join(map(str, row.tolist())), theirs, cache=cache, **options))
    found = value(ours, given_for(model, batch_of(tokens)))[0]
    assert found == pytest.approx(torch.stack(wanted).mean(0).numpy(), abs=1e-6)
    assert found.std() > 1e-3


def test_any_model_with_those_hook_names_can_be_probed():
    pytest.importorskip("transformer_lens")
    from genlab.models import as_hooked, to_bridge

    spec = genlab.plan("sort", 6, 16, seeds=[0], positions="none").specs[0]
    model = Transformer(spec.model, initial(spec.model, [0]))
    task = make(spec.task)
    examples: list[Examples] = [task.sample(np.random.default_rng(n), "id", [n] * 8) for n in (3, 6)]
    signals = [s for s in chosen(["heads", "induction", "copying_*"]) if s.name != "same_hint"]
    for other in (as_hooked(model), to_bridge(model)):
        given = hooked_input(other, examples, task.vocab.tokens)
        ours = ProbeInput(Stacked(model), given.batches, task.vocab.tokens)
        for one in signals:
            assert value(one.name, given) == pytest.approx(value(one.name, ours), abs=1e-5), one.name
    with pytest.raises(UserError, match="hook_pattern"):
        hooked_input(torch.nn.Linear(1, 1), examples)


# -- copying ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_copying_head_and_its_opposite(sign: float):
    model = blank(shape(5, 4, extra=0, d_head=5, n_layers=1))
    part(model, 0, "V")[:5] = torch.eye(5)
    part(model, 0, "O")[:, :5] = sign * torch.eye(5)
    model.params["unembed.W_U"][0, :5] = torch.eye(5)
    given = given_for(model, batch_of(torch.zeros(1, 2, dtype=torch.int64)))
    assert value("copying_eigenvalues", given)[0, 0, 0] == pytest.approx(sign)
    assert value("copying_logits", given)[0, 0, 0] == (1.0 if sign > 0 else 0.0)


def test_eigenvalues_equal_those_of_the_whole_circuit():
    cfg = ModelConfig(d_vocab=9, n_ctx=4, n_layers=1, d_model=8, n_heads=2)
    model = Transformer(cfg, initial(cfg, [0]))
    model.params["blocks.0.ln1.w"][:] += torch.linspace(0, 1, 8)
    w = Stacked(model).weights()
    circuit = w.W_E[0] @ w.W_V[0, 0, 1] @ w.W_O[0, 0, 1] @ w.W_U[0]
    values = torch.linalg.eigvals(circuit.double())
    wanted = values.real.sum() / values.abs().sum()
    given = given_for(model, batch_of(torch.zeros(1, 2, dtype=torch.int64)))
    assert value("copying_eigenvalues", given)[0, 0, 1] == pytest.approx(float(wanted), abs=1e-5)


# -- brackets, auxiliaries, hints, the end of the prompt -------------------------------------------------------------


def bracket_input(make_model: object = None) -> tuple[ProbeInput, tuple[Batch, ...]]:
    spec = spec_of("brackets", 12)
    vocab = make(spec.task).vocab
    model = sign_matching(len(vocab), 16, vocab.id("("), vocab.id(")"))
    batches = tuple(
        Batch(b.length, b.tokens, b.targets, b.real, b.scored, None) for b in probe_batches(spec, torch.device("cpu"))
    )
    return ProbeInput(Stacked(model), batches, vocab.tokens, spec), batches


def test_a_sign_matching_head():
    given, batches = bracket_input()
    task, below, counted = make("brackets", max_len=12), 0, 0
    for batch in batches:
        for row in batch.tokens.tolist():
            depth = np.cumsum([{"(": 1, ")": -1}[t] for t in task.vocab.decode(row) if t in "()"])
            both = (depth < 0).any() and (depth >= 0).any()
            counted, below = counted + both, below + (both and depth[-1] < 0)
    assert counted > 30
    assert value("bracket_sign", given)[0, 1, 0] == 1.0
    assert value("bracket_ambi", given)[0, 1, 0] == 1.0
    assert value("bracket_neg", given)[0, 1, 0] == pytest.approx(below / counted)
    assert value("bracket_nonneg", given)[0, 1, 0] == pytest.approx(1 - below / counted)
    assert value("bracket_ambi", given)[0, 0, 0] == 0.0  # uniform: no strict order


def test_bracket_heads_compare_every_violation_with_every_other_bracket():
    """Against loops over strings, for weights that are random and so mostly in no order."""
    given, batches = bracket_input()
    vocab, generator = make("brackets", max_len=12).vocab, torch.Generator().manual_seed(0)
    weights = {b.length: torch.rand(*b.tokens.shape, b.tokens.shape[1], generator=generator) for b in batches}
    given = with_patterns(given, lambda batch: weights[batch.length])
    found = {"neg": 0, "nonneg": 0, "ambi": 0, "sign": 0}
    strings = 0
    for batch in batches:
        for row, tokens in enumerate(batch.tokens.tolist()):
            text = vocab.decode(tokens)
            at = [i for i, token in enumerate(text) if token in "()"]
            depth = np.cumsum([1 if text[i] == "(" else -1 for i in at])
            to = weights[batch.length][row, text.index(">"), at].tolist()
            low, high = (
                [w for w, d in zip(to, depth, strict=True) if bool(d < 0) is below] for below in (True, False)
            )
            if not low or not high:
                continue
            strings += 1
            neg, nonneg = min(low) > max(high), min(high) > max(low)
            found["neg"] += neg
            found["nonneg"] += nonneg
            found["ambi"] += neg or nonneg
            found["sign"] += neg if depth[-1] < 0 else nonneg
    assert min(found.values()) > 0
    assert found["ambi"] < strings / 2
    for kind, count in found.items():
        assert value(f"bracket_{kind}", given)[0, 0, 0] == pytest.approx(count / strings)


def test_bracket_heads_need_brackets():
    with pytest.raises(NotApplicable, match="not brackets of one kind"):
        value("bracket_neg", untrained(spec_of("sort", 5)))


def test_auxiliaries():
    """All weight is on the main auxiliary where the answer begins: it is found in every sentence, and no other is."""
    spec = spec_of("question-formation", 12)
    given = untrained(spec, runs=1)
    words = make(spec.task).vocab.tokens

    def on_main(batch: Batch) -> torch.Tensor:
        pattern = torch.zeros(len(batch.tokens), batch.tokens.shape[1], batch.tokens.shape[1])
        for row, ids in enumerate(batch.tokens.tolist()):
            sentence = [words[i] for i in ids[: ids.index(2) - 2]]
            pattern[row, ids.index(2), _main_auxiliary(sentence)] = 1
        return pattern

    with_patterns(given, on_main)
    assert value("main_auxiliary", given).min() == 1.0
    assert value("subject_auxiliary", given).max() == 0.0


def test_equal_weights_on_auxiliaries_are_on_none():
    """A head that attends to no auxiliary does not attend to the first one."""
    given = untrained(spec_of("question-formation", 12), runs=1)
    with_patterns(given, lambda batch: torch.zeros(*batch.tokens.shape, batch.tokens.shape[1]))
    assert value("subject_auxiliary", given).max() == 0.0
    assert value("main_auxiliary", given).max() == 0.0


def _main_auxiliary(words: list[str]) -> int:
    """The auxiliary outside relative clauses, found without the parser: after `that` one is the clause's."""
    auxiliaries = [i for i, word in enumerate(words) if word in ("do", "does", "don't", "doesn't")]
    subject_clause = [i for i, word in enumerate(words) if word in ("that", "who") and i < auxiliaries[0]]
    return auxiliaries[1] if subject_clause else auxiliaries[0]


def test_hints_and_the_end_of_the_prompt():
    """Running parity: each hint stands once in the prompt and once in the answer."""
    spec = spec_of("parity", 5, format="running")
    given = untrained(spec, runs=1)
    hints = torch.tensor([token.isalpha() for token in make(spec.task).vocab.tokens])

    def on_hint(batch: Batch) -> torch.Tensor:
        same = (batch.tokens[:, :, None] == batch.tokens[:, None, :]) & hints[batch.tokens][:, :, None]
        return same.tril(-1).float()

    with_patterns(given, on_hint)
    assert value("same_hint", given).min() == 1.0
    assert value("end_token", given).max() == 0.0
    with_patterns(given, lambda b: (b.tokens == 2)[:, None, :].float().expand(-1, b.tokens.shape[1], -1))
    assert value("end_token", given).min() == 1.0


# -- selects of the program ------------------------------------------------------------------------------------------


def test_a_select_of_the_program_is_found_in_the_head_that_does_it():
    """A head whose pattern is the program's own select agrees fully; a uniform head not at all."""
    from genlab.probes.families.selects import select_masks

    spec = spec_of("sort", 6)
    given = untrained(spec, runs=1)
    (name, masks), *_ = select_masks(given).items()
    of = {id(batch): torch.from_numpy(mask) for batch, mask in zip(given.batches, masks, strict=True)}

    def exact(batch: Batch) -> torch.Tensor:
        mask = of[id(batch)].float()
        return mask / mask.sum(-1, keepdim=True).clamp(min=1)

    found = values_of(chosen(["rasp_select"])[0], with_patterns(given, exact))[f"rasp_select.{name}"]
    assert found == pytest.approx(np.ones_like(found), abs=1e-6)
    assert value("rasp_selects_found", given)[0] > 0
    uniform = with_patterns(untrained(spec, runs=1), lambda b: torch.ones(len(b.tokens), *[b.tokens.shape[1]] * 2)
                            .tril() / torch.arange(1, b.tokens.shape[1] + 1)[:, None])  # fmt: skip
    found = values_of(chosen(["rasp_select"])[0], uniform)[f"rasp_select.{name}"]
    assert found == pytest.approx(np.zeros_like(found), abs=1e-6)
    assert value("rasp_selects_found", uniform)[0] == 0


def test_a_select_does_not_see_the_start_token():
    from genlab.probes.families.selects import select_masks

    led, bare = (untrained(spec_of("sort", 6, start_token=start), runs=1) for start in (True, False))
    assert led.vocab == (*bare.vocab, "<start>")
    assert led.own_vocab == bare.vocab
    ours, theirs = select_masks(led), select_masks(bare)
    assert ours.keys() == theirs.keys()
    for name, masks in ours.items():
        for mask, other in zip(masks, theirs[name], strict=True):
            assert np.array_equal(mask[:, 1:, 1:], other)
            assert not mask[:, 0].any()
            assert not mask[:, :, 0].any()


def test_a_task_without_a_program_says_so():
    with pytest.raises(NotApplicable, match="no program for task"):
        value("rasp_select", untrained(spec_of("maze", 3)))
