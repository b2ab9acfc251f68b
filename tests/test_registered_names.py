"""Names that files register beside the built-in ones: what is refused, and what a store holds of them."""

from __future__ import annotations

import pytest
import torch

import genlab
from genlab.errors import UserError
from genlab.forecast.predictors import estimator
from genlab.models import Positions, attention_weights, initial, model_of, position_encoding
from genlab.rasp.prediction import predict_task
from genlab.runs.gridfile import parse_grid
from genlab.spec import register_value, stored_spec


def stored_with(**model: object) -> dict[str, object]:
    spec = genlab.plan("sort", train_len=4, d_model=16, n_layers=1).specs[0].model_dump(mode="json")
    return {**spec, "model": {**spec["model"], **model}}


@pytest.mark.parametrize("field", ["positions", "attn_weights"])
def test_a_stored_run_is_read_without_the_file_of_its_name_and_its_model_says_what_is_missing(field: str):
    spec = stored_spec(stored_with(**{field: "of-a-file"}))
    assert getattr(spec.model, field) == "of-a-file"
    assert spec.run_id == stored_spec(spec.model_dump(mode="json")).run_id
    with pytest.raises(UserError, match="of-a-file"):
        model_of(spec.model, initial(spec.model, [0]))(torch.tensor([[[3, 4, 5]]]))


@pytest.mark.parametrize("field", ["positions", "attn_weights"])
def test_a_new_run_takes_only_names_that_are_known(field: str):
    with pytest.raises(UserError, match="of-a-file"):
        genlab.plan("sort", train_len=4, **{field: "of-a-file"})


def test_a_grid_file_takes_only_names_that_are_known():
    grid = (
        '[base]\ntask = "sort"\ntrain_len = 4\ntest_len = 4\n[sweep]\npositions = ["{}"]\n[seeds]\ntogether = "0:1"\n'
    )
    assert parse_grid(grid.format("rotary"), "names").plans[0].specs[0].model.positions == "rotary"
    with pytest.raises(UserError, match=r"positions: 'rotry' is not allowed.*'rotary'"):
        parse_grid(grid.format("rotry"), "names")


def test_built_in_names_are_taken():
    with pytest.raises(UserError, match="rotary"):
        position_encoding("rotary")(type("Other", (Positions,), {}))
    with pytest.raises(UserError, match="softmax"):
        attention_weights("softmax")(lambda rows: rows.scores)
    with pytest.raises(UserError, match="learned"):
        register_value("positions", "learned")
    for name in ("forest", "threshold"):
        with pytest.raises(UserError, match=name):
            estimator(name, "depth", (1, 2))


def test_the_rasp_rule_does_not_judge_an_encoding_that_it_does_not_know():
    assert predict_task("majority", "plain").expects("of-a-file") is None
    assert predict_task("majority", "plain").expects("rotary") is True
