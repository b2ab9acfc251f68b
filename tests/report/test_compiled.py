"""`lab rasp compile`: a committed run that the other commands take, and training on from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import genlab
from genlab.errors import UserError
from genlab.report.compiled import CompiledRun, compile_run
from genlab.runs import Store
from genlab.runs.status import grid_status
from genlab.tasks import make, spec


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, CompiledRun]:
    store = Store(tmp_path_factory.mktemp("compiled") / "store")
    return store, compile_run(make(spec("sort", 5)), "sort", store, n=20)


def test_it_is_committed_and_right_at_every_length(made: tuple[Store, CompiledRun]):
    store, run = made
    again = Store(store.path)
    assert run.exact
    assert run.figure is not None
    assert run.figure.is_file()
    assert again.entry(run.spec.run_id)["status"] == "compiled"
    exact = again.evals([run.spec.run_id], metric="exact_match")
    assert set(exact["length"]) == {1, 2, 3, 4, 5}
    assert (exact["value"] == 1.0).all()
    assert again.runs()["compiled.program"].tolist() == ["sort"]
    assert grid_status(again, [run.spec.run_id]).done == 1


def test_it_is_another_run_than_one_that_was_never_trained(made: tuple[Store, CompiledRun]):
    _, run = made
    assert run.spec.model_copy(update={"compiled": None}).run_id != run.spec.run_id
    assert "compiled" not in json.loads(genlab.spec.canonical_json(run.spec.model_copy(update={"compiled": None})))


def test_step_0_of_a_compiled_run_is_what_was_compiled(made: tuple[Store, CompiledRun]):
    store, run = made
    first, last = (store.weights([run.spec.run_id], step) for step in (0, None))
    assert torch.equal(first, last)


def test_training_goes_on_from_compiled_weights(made: tuple[Store, CompiledRun], tmp_path: Path):
    _, run = made
    store = Store(tmp_path / "store")
    trained = compile_run(make(spec("sort", 5)), "sort", store, n=20, steps=3, lr=1e-6)
    ids = [trained.spec.run_id]
    assert trained.status == "finished"
    assert trained.spec.run_id != run.spec.run_id
    first, last = store.weights(ids, 0), store.weights(ids)
    assert torch.equal(first, made[0].weights([run.spec.run_id]))
    assert 0 < float((first - last).abs().max()) < 1e-3


def test_the_seed_is_that_of_the_imperfections(tmp_path: Path):
    turned = compile_run(make(spec("sort", 3)), "sort", Store(tmp_path / "store"), n=20, rotate=True, seed=3)
    assert turned.spec.compiled is not None
    assert turned.spec.compiled.seed == 3
    assert turned.exact


def test_what_is_refused_writes_nothing(tmp_path: Path):
    with pytest.raises(UserError, match=r"would have [0-9,]+ weights"):
        compile_run(make(spec("solve-equation", 6)), "solve_equation", Store(tmp_path / "store"))
    assert not (tmp_path / "store").exists()
