"""Compiled programs against the interpreter, token by token: the lab's own, random ones, refusals, imperfections."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genlab.errors import UserError
from genlab.models import StackedModel, flat_of, model_of
from genlab.probes.compiled import agreement, compare, inputs_of
from genlab.rasp.compiler.imperfect import imperfect
from genlab.rasp.compiler.runs import compiled, compiled_weights, find_program, run_spec
from genlab.rasp.compiler.weights import Compiled, compile_programs
from genlab.rasp.programs.registry import PROGRAMS
from genlab.rasp.programs.shortcuts import RULES
from genlab.rasp.reports import params_for
from genlab.spec import CompileSpec, RunSpec, TrainConfig, build
from genlab.tasks import Task, make
from genlab.tasks import spec as task_spec
from tests.rasp.compiler_cases import (
    EXACT,
    LARGE,
    REFUSED,
    SMALLER,
    equal_pairs,
    looks_ahead,
    mean_with_default,
    random_program,
    truncated_mean,
)


def task_of(name: str, max_len: int, format: str | None = None) -> Task:
    return make(task_spec(name, max_len, format, params_for(name, max_len) | SMALLER.get(name, {})))


def led(name: str, max_len: int) -> Task:
    return make(task_of(name, max_len).spec.model_copy(update={"start_token": True}))


def spec_of(name: str, format: str, program: str, max_len: int, **options: object) -> RunSpec:
    task = task_of(name, max_len, format)
    train = build(TrainConfig, {"train_len": max_len, "steps": 0})
    return run_spec(task.spec, train, program=program, **options)


def model_from(made: Compiled) -> StackedModel:
    model = model_of(made.config, flat_of(made.config, made.weights))
    assert isinstance(model, StackedModel)
    return model


def wrong_tokens(spec: RunSpec, n: int = 40, lengths: list[int] | None = None) -> int:
    model = model_of(spec.model, flat_of(spec.model, compiled_weights(spec)))
    assert isinstance(model, StackedModel)
    task = make(spec.task)
    chosen = lengths or task.lengths_between("id", 1, task.max_len).tolist()
    rows = agreement(model, spec, chosen, n, np.random.default_rng(0))
    assert all(row.tokens > 0 for row in rows)
    return sum(row.wrong_tokens for row in rows)


def wrong_with(made: Compiled, program, task: Task, lengths: range, n: int = 40) -> int:
    model, rng = model_from(made), np.random.default_rng(0)
    return sum(compare(model, made, program, task, inputs_of(task, length, n, rng))[2] for length in lengths)


@pytest.mark.parametrize(("task", "format", "program"), EXACT[::6], ids=lambda part: part)
def test_every_token_at_every_length(task: str, format: str, program: str):
    assert wrong_tokens(spec_of(task, format, program, 6)) == 0


def ten_thousand(task: str, format: str, program: str, longest: int) -> None:
    spec = spec_of(task, format, program, longest)
    lengths = make(spec.task).lengths_between("id", 1, longest).tolist()
    assert wrong_tokens(spec, -(-10_000 // len(lengths))) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("task", "format", "program"), EXACT, ids=lambda part: part)
def test_ten_thousand_inputs(task: str, format: str, program: str):
    ten_thousand(task, format, program, 16)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "format", "program", "longest"), LARGE, ids=lambda part: str(part))
def test_ten_thousand_inputs_of_large_models(task: str, format: str, program: str, longest: int):
    ten_thousand(task, format, program, longest)


def test_every_program_is_exact_or_refused():
    known = {(task, format, program) for task, format, program, *_ in (*EXACT, *LARGE, *REFUSED)}
    rules = {program.__name__ for programs in RULES.values() for program in programs}
    for entry in PROGRAMS:
        own = (entry.task, entry.format, entry.name)
        assert own in known or entry.name in rules, own


@pytest.mark.slow
@pytest.mark.parametrize(("task", "format", "program", "why"), REFUSED, ids=lambda part: part)
def test_what_is_refused_says_why(task: str, format: str, program: str, why: str):
    with pytest.raises(UserError, match=why):
        spec_of(task, format, program, 12)


@pytest.mark.parametrize("program", [truncated_mean, mean_with_default], ids=lambda p: p.__name__)
def test_means_are_truncated_toward_zero(program):
    task = led("mode", 8)
    assert wrong_with(compile_programs([(program, 1.0)], task), program, task, range(1, 9), 200) == 0


def test_pairs_are_compared_without_a_table_of_pairs():
    task = led("mode", 8)
    made = compile_programs([(equal_pairs, 1.0)], task)
    assert wrong_with(made, equal_pairs, task, range(1, 9), 200) == 0
    assert made.units == [0, task.n_ctx]  # none for the table of pairs


def check_random(seed: int) -> None:
    task, program = led("mode", 5), random_program(seed)
    assert wrong_with(compile_programs([(program, 1.0)], task), program, task, range(1, 6), 100) == 0


@pytest.mark.parametrize("seed", range(8))
def test_random_programs(seed: int):
    check_random(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8, 208))
def test_more_random_programs(seed: int):
    check_random(seed)


def test_all_that_cannot_be_compiled_is_said_at_once():
    with pytest.raises(UserError) as error:
        compile_programs([(looks_ahead, 1.0)], led("mode", 8))
    message = str(error.value)
    assert message.startswith("2 operations cannot be compiled: ")
    assert message.count("causal=False") == 2
    assert "compiler_cases.py" in message


def test_a_model_without_a_start_token_is_refused():
    with pytest.raises(UserError, match="needs a start token"):
        compile_programs([(random_program(0), 1.0)], task_of("mode", 8))


def test_an_unknown_program_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'sort'"):
        spec_of("sort", "plain", "sorted", 6)


class TestWhatItDependsOn:
    def test_a_weight_that_is_taken_out_is_noticed(self):
        spec = spec_of("brackets", "plain", "NESTED", 8)
        weights = dict(compiled_weights(spec))
        weights["blocks.0.attn.W_O"] = weights["blocks.0.attn.W_O"].copy()
        weights["blocks.0.attn.W_O"][0] = 0.0
        model = model_of(spec.model, flat_of(spec.model, weights))
        assert isinstance(model, StackedModel)
        rows = agreement(model, spec, [2, 8], 40, np.random.default_rng(0))
        assert sum(row.wrong_tokens for row in rows) > 0
        assert min(row.logit_margin for row in rows) <= 0

    def test_scores_closer_to_each_other_fail(self):
        assert wrong_tokens(spec_of("parity", "plain", "parity", 12, gap=2.0), 100, [12]) > 0

    def test_the_reading_margin_is_that_of_softmax_dispersion(self):
        """Half the distance of 1 / (n + 1) and 1 / (n + 2) is what is left where n keys are selected."""
        spec = spec_of("compare-occurrence", "plain", "compare_occurrence", 12)
        model = model_of(spec.model, flat_of(spec.model, compiled_weights(spec)))
        assert isinstance(model, StackedModel)
        rows = agreement(model, spec, [2, 6, 12], 400, np.random.default_rng(0))
        for row in rows:
            n = row.positions - 1  # at most so many keys are selected
            assert row.reading_margin >= 0.5 / ((n + 1) * (n + 2)) * 0.98
        assert rows[0].reading_margin > rows[1].reading_margin > rows[2].reading_margin


def test_queries_and_keys_have_entries_of_about_the_same_size():
    made = compile_programs([(random_program(0), 1.0), (truncated_mean, 1.0)], led("mode", 8))
    for layer in range(made.config.n_layers):
        qkv = made.weights[f"blocks.{layer}.attn.W_QKV"].reshape(made.config.d_model, 3, made.config.n_heads, -1)
        largest = np.abs(qkv).max((0, 3))
        for queries, keys in largest[:2].T:
            assert queries == keys == 0 or 0.5 <= queries / keys <= 2


class TestImperfections:
    def wrong(self, **options: object) -> int:
        return wrong_tokens(spec_of("brackets", "plain", "NESTED", 8, **options))

    def test_rotation_and_decoys_change_no_answer(self):
        assert self.wrong(rotate=True, decoys=3, seed=1) == 0

    def test_a_rotated_basis_is_no_longer_categorical(self):
        plain, turned = (compiled_weights(spec_of("brackets", "plain", "NESTED", 8, rotate=r)) for r in (False, True))
        assert np.count_nonzero(turned["embed.W_E"]) > 5 * np.count_nonzero(plain["embed.W_E"])

    def test_decoys_attend_and_fire(self):
        spec = spec_of("brackets", "plain", "NESTED", 8, decoys=3)
        seen: dict[str, torch.Tensor] = {}
        model = model_of(spec.model, flat_of(spec.model, compiled_weights(spec)))
        assert isinstance(model, StackedModel)
        model(torch.from_numpy(inputs_of(make(spec.task), 8, 20, np.random.default_rng(0))), tap=_keep(seen))
        assert float(seen["blocks.1.attn.hook_pattern"][0, :, -3:, -1].std(-1).mean()) > 0.02
        assert float((seen["blocks.1.mlp.hook_post"][0, ..., -3:] > 0).float().mean()) > 0.1

    def test_noise_and_superposition_break_it_when_large(self):
        assert self.wrong(noise=1e-6) == 0
        assert self.wrong(noise=1.0) > 0
        assert self.wrong(width=8) > 0

    def test_with_room_for_all_directions_nothing_changes(self):
        size = spec_of("brackets", "plain", "NESTED", 8).model.d_model
        assert self.wrong(width=size) == 0
        assert self.wrong(width=2 * size) == 0

    def test_a_run_in_superposition_has_a_digest_of_its_own(self):
        plain, narrow = (spec_of("sort", "plain", "sort", 6, width=width).compiled for width in (0, 20))
        assert plain is not None
        assert narrow is not None
        assert plain.digest != narrow.digest

    def test_maps_of_large_tokens_stand_noise(self):
        """Letters are numbers from 1,000 on: steps over their sum would have coefficients of that size."""
        assert wrong_tokens(spec_of("even-pairs", "plain", "even_pairs", 8, noise=1e-3)) == 0

    def test_the_seed_decides(self):
        spec = spec_of("sort", "plain", "sort", 6, rotate=True, seed=0)
        assert spec.compiled is not None
        other = spec.model_copy(update={"compiled": spec.compiled.model_copy(update={"seed": 1})})
        assert np.array_equal(compiled_weights(spec)["embed.W_E"], compiled_weights(spec)["embed.W_E"])
        assert not np.allclose(compiled_weights(spec)["embed.W_E"], compiled_weights(other)["embed.W_E"])

    def test_a_gate_weighs_two_programs(self):
        spec = spec_of("brackets", "plain", "NESTED", 8, beside="EQUAL-COUNT", gate=0.3)
        assert spec.compiled is not None
        task, made = make(spec.task), compiled(spec.task, spec.compiled)
        nested, equal = (find_program(name, task) for name in ("NESTED", "EQUAL-COUNT"))
        assert wrong_with(made, equal, task, range(2, 10, 2)) == 0
        assert wrong_with(made, nested, task, range(2, 10, 2)) > 0  # the smaller weight loses where they differ

    @pytest.mark.parametrize("options", [{"gate": 0.5}, {"beside": "EQUAL-COUNT"}])
    def test_a_gate_needs_two_programs(self, options: dict[str, object]):
        with pytest.raises(UserError, match="gate"):
            spec_of("brackets", "plain", "NESTED", 8, **options)


def _keep(seen: dict[str, torch.Tensor]):
    def tap(name: str, x: torch.Tensor) -> torch.Tensor:
        seen[name] = x.detach()
        return x

    return tap


def test_another_program_under_the_same_name_is_noticed():
    spec = spec_of("sort", "plain", "sort", 6)
    assert spec.compiled is not None
    changed = spec.model_copy(update={"compiled": spec.compiled.model_copy(update={"digest": "0" * 12})})
    with pytest.raises(UserError, match="has changed since"):
        compiled_weights(changed)


def test_imperfect_leaves_the_perfect_one_as_it_is():
    made = compile_programs([(random_program(0), 1.0)], led("mode", 5))
    before = {name: weight.copy() for name, weight in made.weights.items()}
    imperfect(made, build(CompileSpec, {"program": "", "digest": "", "noise": 0.5, "decoys": 1, "rotate": True}))
    assert all(np.array_equal(before[name], weight) for name, weight in made.weights.items())
