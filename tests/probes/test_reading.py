"""How well signals are known: maxima without bias, halves and numbers of examples in the store, old readings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hand_models import batch_of, blank, given_for, shape

import genlab
from genlab.forecast.tables import signal_parts, stored_signals
from genlab.models import Transformer, initial
from genlab.probes import ProbeInput, all_signals, chosen, probe, probe_input, read
from genlab.probes.probing import cross_fitted, values_of
from genlab.runs import Store
from genlab.runs.files import write_table
from genlab.runs.parts import SIGNAL_COLUMNS, Signals

HEADS = 16


def coin_flips(given: ProbeInput) -> torch.Tensor:
    """What a head that knows nothing gives: of each of 16 "heads" the fraction of ones in a column, truly 1/2."""
    tokens = torch.cat([batch.tokens for batch in given.batches])
    return tokens[:, :HEADS].double().mean(0)[None, None]


def test_a_maximum_over_heads_that_are_alike_is_not_above_them():
    """The maximum of 16 fair coins, 64 throws each, is .61; the coin chosen on one half is fair on the other."""
    flips = replace(chosen(["previous_token"])[0], name="flips", read=coin_flips, null=False)
    model, plain, ours = blank(shape(2, HEADS, extra=0, d_head=2)), [], []
    for seed in range(300):
        tokens = torch.randint(2, (64, HEADS), generator=torch.Generator().manual_seed(seed))
        rows = read(given_for(model, batch_of(tokens)), [flips]).rows["flips"]
        by_name = {row.name: row.value for row in rows if row.head < 0}
        ours.append(by_name["flips.max"])
        assert by_name["flips.max"] == pytest.approx((by_name["flips.max.half1"] + by_name["flips.max.half2"]) / 2)
        plain.append(max(row.value for row in rows if row.head >= 0))
    assert np.mean(plain) > 0.58
    assert np.mean(ours) == pytest.approx(0.5, abs=4 * np.std(ours) / 300**0.5)


def test_the_choice_of_a_half_that_knows_nothing_of_a_head():
    first, second = np.array([[0.3, np.nan, 0.2], [np.nan] * 3]), np.array([[0.1, 0.9, 0.4], [1.0, 2.0, 3.0]])
    values = cross_fitted(first, second)
    assert values[0][0] == 0.2  # the second half chooses the last head
    assert values[1][0] == 0.1
    assert np.isnan([values[0][1], values[1][1]]).all()


def test_what_is_not_read_on_a_sample_has_no_halves():
    spec = genlab.plan("sort", 5, 5, seeds=[0], steps=0, d_model=16, n_heads=2).specs[0]
    given = probe_input([spec], Transformer(spec.model, initial(spec.model, [0])))
    reading = read(given, [s for s in chosen(["weights", "copying_*", "composition"]) if s.exact])
    rows = [row for of in reading.rows.values() for row in of]
    assert len(rows) > 20
    assert not [row for row in rows if ".half" in row.name]
    values = values_of(chosen(["qk_spectral_norm"])[0], given)["qk_spectral_norm"]
    assert next(row.value for row in rows if row.name == "qk_spectral_norm.max") == values.max()


def test_random_text_is_halved_by_texts():
    """Both halves of a signal that reads no probe example would be the same number, and look well known."""
    spec = genlab.plan("copy", 12, 30, seeds=[0], steps=0, d_model=16, n_heads=2).specs[0]
    given = probe_input([spec], Transformer(spec.model, initial(spec.model, [0])))
    whole, *halves = (
        values_of(chosen(["random_induction_prefix"])[0], one)["random_induction_prefix"]
        for one in (given, *given.halves)
    )
    assert not np.array_equal(halves[0], halves[1])
    assert np.mean(halves, axis=0) == pytest.approx(whole, abs=1e-6)


def test_means_over_examples_are_means_over_halves():
    """Each length counts as often as training draws it: the whole is the mean of its two halves."""
    spec = genlab.plan("brackets", 20, 20, seeds=[0], steps=0, d_model=16, n_heads=2).specs[0]
    given = probe_input([spec], Transformer(spec.model, initial(spec.model, [0])), n=64)
    for one in chosen(["loss", "accuracy", "attention_entropy", "ablate_head"]):
        parts = [values_of(one, half) for half in given.halves]
        for name, whole in values_of(one, given).items():
            if "mean" in name or "resample" in name:
                continue  # what is put in a head's place is taken from the other examples
            assert np.mean([part[name] for part in parts], axis=0) == pytest.approx(whole, abs=1e-6), name


def test_position_alone_or_content_alone():
    """Two different examples agree where position decides; without the bias of 1/n that a length of few has."""
    from hand_models import with_patterns

    tokens = torch.randint(5, (2, 6), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(60):
        given = given_for(blank(shape(5, 6, extra=0, d_head=5)), batch_of(tokens))
        noise = torch.rand(2, 6, 6, generator=generator).tril()
        with_patterns(given, lambda _batch, noise=noise: noise / noise.sum(-1, keepdim=True))
        found.append(values_of(chosen(["positional"])[0], given)["positional"].mean())
    assert np.mean(found) < 0.3  # clipped at 0; it was .5 and more


@pytest.fixture
def store(tmp_path: Path) -> Store:
    plan = genlab.plan("parity", 6, 8, seeds=(0, 1, 2), steps=2, eval_every=2, n_layers=1, d_model=16, n_heads=2)
    genlab.train(plan, store=tmp_path / "store", workers=1, group="few")
    return Store(tmp_path / "store")


def write_as_before(store: Store, signal: str, version: int, value: float) -> None:
    """A part as it was written before numbers of examples were kept: without the column `n`."""
    runs = store.run_ids()
    columns = {name: [""] * len(runs) for name in SIGNAL_COLUMNS if name != "n"}
    columns |= {"run_id": runs, "signal": [signal] * len(runs), "name": [signal] * len(runs)}
    columns |= {name: [-1] * len(runs) for name in ("layer", "head")}
    columns |= {"step": [2] * len(runs), "version": [version] * len(runs), "value": [value] * len(runs)}
    write_table(store.path / "signals", f"old-{signal}", pa.table(columns))


def test_readings_made_before_are_read_as_what_they_were(store: Store):
    """What is read on probe inputs is read again, weights are not; until then the old values stand."""
    write_as_before(store, "loss", 1, 7.0)
    write_as_before(store, "weight_norm", 1, 3.0)
    frame = Signals(store.path).frame()
    assert frame["value"].tolist() == [7.0, 3.0] * 3
    assert set(frame["n"]) == {0}
    assert (
        signal_parts(stored_signals(store, store.run_ids()), pd.Index(store.run_ids()), False)["confidence"]
        .eq(7.0)
        .all(axis=None)
    )
    result = probe(store, store.run_ids(), chosen(["loss", "weight_norm"]))
    assert (result.read, result.found) == (3, 3)
    frame = Signals(store.path).frame()
    assert (frame[frame["name"] == "loss"]["value"] < 7).all()
    assert (frame[frame["name"] == "weight_norm"]["value"] == 3.0).all()
    assert {"loss.half1", "loss.half2"} < set(frame["name"])


def test_values_of_two_versions_are_not_compared(store: Store):
    write_as_before(store, "loss", 1, 7.0)
    one, *others = store.run_ids()
    probe(store, [one], chosen(["loss"]))
    found = signal_parts(stored_signals(store, store.run_ids()), pd.Index(store.run_ids()), False)
    assert found["confidence"]["loss"].notna().tolist() == [True, False, False]
    assert set(found["half1"]) == {"loss"}
    assert len(others) == 2


def test_another_number_of_examples_is_another_reading(lab, store: Store):
    words = ("probe", "few", "--signals", "loss,weight_norm", "--json")
    few = json.loads(lab(*words, "--probe-n", "16")[1])["values"]
    many = json.loads(lab(*words)[1])["values"]
    assert {row["n"] for row in few} == {0, 16}
    assert {row["n"] for row in many} == {0, 512}
    assert [row for row in few if row["n"] == 0] == [row for row in many if row["n"] == 0]
    again = json.loads(lab(*words, "--probe-n", "16")[1])["values"]
    assert again == few
    assert set(Signals(store.path).frame()["n"]) == {0, 512}  # a forecast takes the best known
    Signals(store.path).compact()
    assert probe(store, store.run_ids(), chosen(["loss"]), n=16).found == 3


def test_probe_shows_how_well_a_signal_is_known(lab, store: Store):
    _, out, _ = lab("probe", "few", "--signals", "loss,weight_norm")
    head = next(line for line in out.splitlines() if "reliability" in line)
    assert head.split()[-2:] == ["noise", "reliability"]
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith(("loss", "weight_norm"))}
    assert rows["weight_norm"][-1] == "exact"
    long = "exact_match_at_temperature.1.25"
    assert long in lab("probe", "few", "--signals", "exact_match_at_temperature")[1]  # whole, in 80 columns too
    assert rows["loss"][-1] != "exact"
    assert float(rows["loss"][rows["loss"].index("3") + 5]) >= 0


def test_all_that_is_read_on_a_sample_says_so():
    by_reads = {name: {s.name for s in all_signals() if s.reads == name} for name in ("weights", "history")}
    assert {"weight_norm", "k_composition", "copying_logits", "fourier_gini"} <= by_reads["weights"]
    assert {"loss_area", "time_to_fit"} <= by_reads["history"]
