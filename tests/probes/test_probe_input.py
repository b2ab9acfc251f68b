"""A probe cannot see the answer: what it is given is of the training distribution, and there is no field for more."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

import genlab
from genlab.errors import UserError
from genlab.models import LSTM, Transformer, initial, model_of
from genlab.probes import NotApplicable, ProbeInput, all_signals, local_learning, probe_batches, probe_input, read
from genlab.spec import RunSpec
from genlab.tasks import make
from genlab.training import Stream

FAMILIES = Path(genlab.__file__).parent / "probes" / "families"


def spec_of(task: str, train_len: int, test_len: int, **options: object) -> RunSpec:
    return genlab.plan(task, train_len, test_len, seeds=[0], steps=0, **options).specs[0]


def test_there_is_no_field_for_anything_else():
    names = {field.name for field in dataclasses.fields(ProbeInput)}
    assert names == {"model", "batches", "vocab", "spec", "initial", "history", "_memo", "_of", "_rows", "_half"}
    batch = {field.name for field in dataclasses.fields(probe_batches(spec_of("sort", 4, 9), torch.device("cpu"))[0])}
    assert batch == {"length", "tokens", "targets", "real", "scored", "offsets"}


LAWS = [
    ("sort", 6, 20, {}),
    ("brackets", 40, 40, {}),
    ("brackets", 34, 34, {"min_len": 10}),
    ("parity", 60, 60, {"curriculum": 0.5}),
    ("brackets", 20, 20, {"pool": 512}),
]


@pytest.mark.parametrize(("task", "train_len", "test_len", "options"), LAWS, ids=str)
def test_lengths_are_those_of_training(task: str, train_len: int, test_len: int, options: dict[str, object]):
    """Of each half of the examples, any run of lengths has as many as the training law gives it, to within one."""
    spec = spec_of(task, train_len, test_len, **options)
    batches = probe_batches(spec, torch.device("cpu"))
    lengths, weights = make(spec.task).length_law(spec.train.train_split, spec.train.min_len, train_len)
    counts = {batch.length: len(batch.tokens) for batch in batches}
    assert list(counts) == sorted(counts)
    assert set(counts) <= set(lengths.tolist())
    assert sum(counts.values()) == 512
    assert all(count % 2 == 0 for count in counts.values())
    ours = np.cumsum([counts.get(int(length), 0) / 2 for length in lengths])
    assert np.abs(ours - 256 * np.cumsum(weights)).max() <= 1


@pytest.mark.parametrize("mix", [{"mix": 0.25, "mix_len": 12}, {"mix": 0.5, "mix_split": "low"}], ids=str)
def test_what_training_mixes_in_is_read_too(mix: dict[str, object]):
    spec = spec_of("sort", 6, 20, batch_size=64, **mix)
    task, train = make(spec.task), spec.train
    batches = probe_batches(spec, torch.device("cpu"), n=256)
    assert sum(len(batch.tokens) for batch in batches) == 256
    low, high = train.mixed_in[1]
    in_reach = [sum(low <= batch.length <= high for _row in batch.tokens) for batch in batches]
    if train.mix_len:
        assert sum(in_reach) == 64
        assert batches[-1].length == 12
        return
    items = task.params.symbols  # pyright: ignore[reportAttributeAccessIssue]
    # Half of each half has values from the lower half alone, which others of 4 items rarely have.
    for batch in batches[3:]:
        low = [
            int(row[1 : 1 + batch.length].max()) < 3 + items // 2 for row in batch.tokens
        ]  # behind the start token
        middle = len(low) // 2
        for of_half in (low[:middle], low[middle:]):
            assert middle / 2 <= sum(of_half) <= 0.75 * middle


def test_halves_share_no_example_and_take_no_other_pass():
    spec = spec_of("brackets", 20, 20, d_model=16, n_heads=2)
    given = probe_input([spec], Transformer(spec.model, initial(spec.model, [0])))
    passes: list[int] = []
    model = given.model
    given.__dict__["seen"] = tuple(given.look(batch) for batch in given.batches)
    first, second = given.halves
    object.__setattr__(given, "model", lambda *a, **k: passes.append(1) or model(*a, **k))
    for whole, seen, one, other in zip(given.batches, given.seen, first.seen, second.seen, strict=True):
        assert len(one.batch.tokens) == len(other.batch.tokens) == len(whole.tokens) // 2
        assert torch.equal(torch.cat([one.batch.tokens, other.batch.tokens]), whole.tokens)
        assert torch.equal(torch.cat([one.pattern(1), other.pattern(1)], dim=1), seen.pattern(1))
    assert not passes
    rows = torch.arange(7)
    assert [one.alternate(rows).tolist() for one in (given, first, second)] == [[*range(7)], [0, 2, 4, 6], [1, 3, 5]]


@pytest.mark.parametrize("n", [0, 14, 513, -2])
def test_a_number_of_examples_that_cannot_be_halved_is_told(n: int):
    with pytest.raises(UserError, match="even numbers from 16"):
        probe_batches(spec_of("sort", 6, 6), torch.device("cpu"), n=n)


def test_batches_are_those_of_the_training_split():
    """Modular addition holds pairs out: `id` is them, and no probe sees one."""
    spec = spec_of("modular", 1, 1, params={"p": 13, "train_fraction": 0.5})
    task = make(spec.task)
    trained = {(int(a), int(b)) for a, b in zip(task.left[task.is_train], task.right[task.is_train], strict=True)}  # pyright: ignore
    tokens = probe_batches(spec, torch.device("cpu"))[0].tokens - 3
    seen = {(int(a), int(b)) for a, b in zip(tokens[:, 0], tokens[:, 2], strict=True)}
    assert seen <= trained
    assert len(seen) > 40


def test_batches_are_the_same_for_all_seeds_and_not_those_of_evaluation():
    one, other = spec_of("sort", 6, 6), spec_of("sort", 6, 6).with_seeds(5, 7)
    for a, b in zip(*(probe_batches(spec, torch.device("cpu")) for spec in (one, other)), strict=True):
        assert torch.equal(a.tokens, b.tokens)
    again = probe_batches(one, torch.device("cpu"), seed=1)
    assert not torch.equal(probe_batches(one, torch.device("cpu"))[-1].tokens, again[-1].tokens)


def test_no_signal_names_a_split():
    """`sample` and the names of splits do not occur where signals are computed."""
    for path in FAMILIES.glob("*.py"):
        text = path.read_text()
        assert ".sample(" not in text, path
        assert "make(" not in text, path


def test_signals_of_other_lengths_are_not_admissible():
    marked = {s.name for s in all_signals() if not s.admissible}
    assert {s for s in marked if s.startswith("random_")}
    assert {"restricted_loss", "dispersion_bound", "largest_weight_extrapolated"} < marked
    assert "largest_weight_growth" not in marked


SLOW = pytest.mark.slow  # every signal that these tasks have, one of the others has
TASKS = [
    "brackets",
    pytest.param("question-formation", marks=SLOW),
    pytest.param("modular", marks=SLOW),
    pytest.param("sort", marks=SLOW),
    pytest.param("repeats", marks=SLOW),
]


@pytest.mark.parametrize("task", TASKS)
def test_every_signal_reads_or_says_why_not(task: str, monkeypatch: pytest.MonkeyPatch):
    """Within its declared range, on small untrained models; what is slow or compares runs too."""
    monkeypatch.setattr(local_learning, "CHAINS", 1)
    monkeypatch.setattr(local_learning, "DRAWS", 2)
    sizes = {"question-formation": 12, "modular": 1, "brackets": 6, "repeats": 12}
    spec = spec_of(task, sizes.get(task, 5), sizes.get(task, 5), d_model=16, n_heads=2, n_layers=2)
    specs = [spec.with_seeds(seed, 0) for seed in range(2)]
    stack = Transformer(spec.model, initial(spec.model, range(2)))
    batches = probe_batches(spec, torch.device("cpu"))
    small = tuple(batch.first(8) for batch in batches[:: max(1, len(batches) - 1)])  # of the shortest and the longest
    history = [{c: np.array([1.0, 2.0]) for c in ("step", "loss", "lr", "exact_match")}] * 2
    given = probe_input(specs, stack, small, history)
    reading = read(given, all_signals())
    assert set(reading.rows) | set(reading.skipped) == {s.name for s in all_signals()}
    assert len(reading.rows) > 45
    assert all(len(why.split()) > 3 for why in reading.skipped.values())


def test_models_without_attention_say_so():
    spec = spec_of("sort", 4, 4, architecture="lstm")
    lstm = model_of(spec.model, initial(spec.model, [0]))
    assert isinstance(lstm, LSTM)
    with pytest.raises(NotApplicable, match="no attention"):
        probe_input([spec], lstm)
    values = spec_of("max-retrieval", 5, 5, format="values")
    with pytest.raises(NotApplicable, match="real-valued"):
        probe_input([values], model_of(values.model, initial(values.model, [0])), ())


@pytest.mark.parametrize("positions", [{"positions": "abacus"}, {"random_positions": 64}])
def test_positions_that_are_given_are_given(positions: dict[str, object]):
    from genlab.probes import chosen

    spec = spec_of("addition", 3, 3, format="reversed", d_model=16, n_heads=2, **positions)
    given = probe_input([spec], Transformer(spec.model, initial(spec.model, [0])))
    reading = read(given, chosen(["previous_token", "loss", "random_induction_mul"]))
    assert set(reading.rows) == {"previous_token", "loss"}
    assert "random or given by the task" in reading.skipped["random_induction_mul"]


def test_blocks_that_are_applied_twice_are_two_layers():
    spec = spec_of("sort", 4, 4, loops=2, n_layers=1, d_model=16, n_heads=2)
    given = probe_input([spec], Transformer(spec.model, initial(spec.model, [0])))
    from genlab.probes import chosen
    from genlab.probes.probing import values_of

    assert values_of(chosen(["previous_token"])[0], given)["previous_token"].shape == (1, 2, 2)
    assert values_of(chosen(["k_composition"])[0], given)["k_composition"].shape == (1, 2, 2)


@pytest.mark.parametrize("law", ["random", "zero"])
def test_probe_examples_stand_where_those_of_training_do(law: str):
    """Offsets at each length, of probing and of a hundred training batches, are two samples of one law."""
    plan = genlab.plan("sort", 6, 20, offsets=law, positions="learned", lengths_per_batch=16, batch_size=64)
    spec = plan.specs[0]
    stream, met = Stream(plan.task, spec.train, spec.model), {}
    for step in range(100):
        batch = stream.batch(step)
        for length, offset in zip(batch.lengths.tolist(), stream.offsets(step, batch).tolist(), strict=True):
            met.setdefault(length, []).append(offset)
    probed = {batch.length: batch.offsets.tolist() for batch in probe_batches(spec, torch.device("cpu"))}
    assert set(probed) == set(met)
    for length, offsets in probed.items():
        assert ks_2samp(offsets, met[length]).pvalue > 1e-4
        assert (max(offsets) > 0) == (law == "random")
