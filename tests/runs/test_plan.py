"""Plans: what a user is silent about is filled in, what cannot be is refused before anything is trained."""

from __future__ import annotations

import pytest

import genlab
from genlab.errors import UserError
from genlab.runs.plan import Evals, default_lengths, defaults_of, eval_splits
from genlab.runs.recipes import RECIPES
from genlab.spec import canonical_json
from genlab.tasks import make, names, task_class


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"task": "partiy"}, "unknown task 'partiy'; did you mean 'parity'"),
        ({"train_len": 0}, "a length is at least 1"),
        ({"test_len": 5}, "--test-len 5 is below --train-len 10"),
        ({"max_len": 15}, "give --max-len 20"),
        ({"format": "plane"}, "did you mean 'plain'?"),
        ({"d_model": 65}, "d_model 65 is not divisible by n_heads 4; nearest valid d_model: 64"),
        ({"steps": -1}, "steps: -1 is not allowed"),
        ({"n_layer": 3}, "unknown option 'n_layer'; did you mean 'n_layers'?"),
        ({"init_seed": 3}, "unknown option 'init_seed'"),
        ({"positions": "rotery"}, "did you mean 'rotary'?"),
        ({"positions": "rotary", "d_head": 15}, "even d_head"),
        ({"min_len": 11}, "min_len 11 is greater than train_len 10"),
        ({"betas": (0.9, 1.5)}, "betas"),
        ({"train_split": "dens"}, "did you mean 'dense'?"),
        ({"evals": Evals(20, ("spars",))}, "did you mean 'sparse'?"),
        ({"params": {"p": 1}}, "unknown option 'p'"),
    ],
)
def test_what_cannot_be_is_one_clear_line(changed: dict[str, object], said: str):
    asked = {"task": "parity", "train_len": 10, "test_len": 20, **changed}
    with pytest.raises(UserError) as error:
        genlab.plan(**asked)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_lengths_that_are_not_given_are_those_of_the_task():
    train_len, test_len = default_lengths("sort", defaults_of("sort", None))
    by_default, longer = genlab.plan("sort"), genlab.plan("sort", test_len=test_len + 5)
    assert {spec.train.train_len for made in (by_default, longer) for spec in made.specs} == {train_len}
    assert (by_default.evals.test_len, longer.evals.test_len) == (test_len, test_len + 5)


def test_max_len_sizes_vocabulary_and_context_and_follows_the_test_length():
    short, long = (genlab.plan("parity", 5, length, format="running").specs[0] for length in (10, 20))
    assert short.task.max_len == 10
    assert long.model.d_vocab == short.model.d_vocab + 10  # ten more hints
    assert long.model.n_ctx == make(long.task).n_ctx > short.model.n_ctx
    fixed = genlab.plan("parity", 5, 10, format="running", max_len=20).specs[0]
    assert (fixed.model, fixed.task) == (long.model, long.task)


def test_evaluations_are_no_part_of_a_run():
    ids = {
        genlab.plan("parity", 5, 10, max_len=30, evals=e).specs[0].run_id
        for e in (Evals(10), Evals(0), Evals(30, n=9))
    }
    assert len(ids) == 1


def test_seeds_share_the_configuration_and_nothing_else():
    specs = genlab.plan("parity", 5, 10, seeds=(0, 1, 7)).specs
    assert len({s.run_id for s in specs}) == 3
    assert all(s.configuration == specs[0].configuration for s in specs)
    assert [(s.train.init_seed, s.train.data_seed) for s in specs] == [(0, 0), (1, 1), (7, 7)]


def test_the_first_length_beyond_training_is_always_tested():
    for train_len, test_len in ((5, 6), (20, 50), (20, 500)):
        made = genlab.plan("parity", train_len, test_len)
        lengths = [n for split in eval_splits(made.task, made.specs[0].train, made.evals) for n in split.lengths]
        assert {1, train_len, train_len + 1, test_len} <= set(lengths)
        assert lengths == sorted(set(lengths))


def test_in_distribution_only():
    made = genlab.plan("parity", 20, 50, evals=Evals(0))
    (only,) = eval_splits(made.task, made.specs[0].train, made.evals)
    assert only.name == "id"
    assert max(only.lengths) == 20


def test_another_split_is_tested_within_and_beyond_the_training_lengths():
    made = genlab.plan("parity", 20, 50, evals=Evals(50, ("sparse",)))
    inside, sparse = eval_splits(made.task, made.specs[0].train, made.evals)
    assert (inside.name, max(inside.lengths)) == ("id", 20)
    assert sparse.name == "sparse"
    assert {20, 21, 50} <= set(sparse.lengths)


def test_costly_settings_get_fewer_steps_unless_steps_are_asked_for():
    cheap = genlab.plan("parity", 10, 20).specs[0].train.steps
    dear = genlab.plan("parity", 40, 80, format="running", n_layers=6, d_model=512, n_heads=8).specs[0].train.steps
    assert dear < cheap
    assert dear >= 200
    assert genlab.plan("parity", 40, 80, n_layers=6, d_model=512, steps=5000).specs[0].train.steps == 5000


@pytest.mark.parametrize("name", names())
def test_every_task_plans_with_its_defaults(name: str):
    for form in task_class(name).formats:
        defaults = {**task_class(name).defaults.get("*", {}), **task_class(name).defaults.get(form, {})}
        wanted = max(12, defaults.get("min_len", 1))
        longest = min(wanted, make(name, wanted, form).longest(task_class(name).splits["id"]))
        made = genlab.plan(name, longest, longest, format=form)
        assert made.specs[0].task.name == name
        assert eval_splits(made.task, made.specs[0].train, made.evals)


def test_a_task_trains_on_lengths_of_its_own_unless_told():
    (spec,) = genlab.plan("modular").specs
    assert (spec.train.train_len, spec.task.max_len) == (1, 1)
    assert default_lengths("modular", {"train_len": 7}) == (7, 14)
    assert default_lengths("modular", {"train_len": 7, "test_len": 9}) == (7, 9)
    (given,) = genlab.plan("sort", 6).specs  # with a training length of the user's, tests stay within it
    assert (given.train.train_len, given.task.max_len) == (6, 6)


def test_where_nobody_names_a_length_the_error_says_so():
    with pytest.raises(UserError, match="no default training length; give --train-len"):
        default_lengths("first-bit", {"steps": 3})
    with pytest.raises(UserError, match="did you mean 'running'"):
        defaults_of("parity", "runing")


def test_a_tasks_own_configuration_gets_all_its_steps_and_a_dearer_one_as_many_as_fit():
    own = genlab.plan("modular").specs[0].train.steps
    assert own == defaults_of("modular")["steps"] == genlab.plan("modular", lr=1e-4).specs[0].train.steps
    assert genlab.plan("modular", d_model=256).specs[0].train.steps < own
    assert genlab.plan("modular", params={"p": 101}).specs[0].train.steps < own


def test_the_defaults_of_a_task_may_make_it_smaller_and_say_so(monkeypatch: pytest.MonkeyPatch):
    cls = task_class("modular-brackets")
    monkeypatch.setattr(cls, "defaults", {"*": {**cls.defaults["*"], "params": {"modulus": 3}}})
    own = genlab.plan("modular-brackets")
    assert own.task.spec.params["modulus"] == 3
    assert own.specs[0].train.steps == cls.defaults["*"]["steps"]
    assert "--param modulus=3" in own.picked
    given = genlab.plan("modular-brackets", params={"modulus": 7})
    assert given.task.spec.params["modulus"] == 7
    assert "modulus" not in given.picked
    longer = genlab.plan("modular-brackets", 9)  # a length of the user's: the task as its paper has it
    assert longer.task.spec.params["modulus"] == 5
    assert "modulus" not in longer.picked


def test_parameters_that_a_task_sets_together_are_dropped_together():
    assert {"generator", "p"} <= set(defaults_of("maze")["params"])
    assert "p=0.6" in genlab.plan("maze", params={"pool_seed": 1}).picked
    for given in ({"generator": "dfs"}, {"generator": "wilson", "pool_seed": 1}):  # which know no p
        made = genlab.plan("maze", params=given)
        assert made.task.spec.params["generator"] == given["generator"]
        assert "param" not in made.picked
    with pytest.raises(UserError, match="p needs generator percolation or dfs-percolation, not 'dfs'"):
        genlab.plan("maze", params={"p": 0.3})


def test_a_training_length_below_the_tasks_own_shortest_is_the_only_one():
    assert defaults_of("modular-icl")["min_len"] > 5
    (spec,) = genlab.plan("modular-icl", 5).specs
    assert (spec.train.min_len, spec.train.train_len) == (5, 5)


def test_new_runs_lead_by_a_start_token_where_a_task_can_have_one() -> None:
    led, bare = (genlab.plan("copy", 5, 10, start_token=given).specs[0] for given in (None, False))
    assert (led.task.start_token, bare.task.start_token) == (True, False)
    assert (led.model.d_vocab, led.model.n_ctx) == (bare.model.d_vocab + 1, bare.model.n_ctx + 1)
    assert make(led.task).vocab.tokens[-1] == "<start>"
    assert "start_token" not in canonical_json(bare.task)  # so that ids from before there was a choice stay
    for task in ("brackets", "modular", "maze"):  # they have a start of their own, or are published without one
        assert (
            not genlab.plan(task, 3 if task == "maze" else 1 if task == "modular" else 10).specs[0].task.start_token
        )
    with pytest.raises(UserError, match="its examples have '<start>' already"):
        genlab.plan("brackets", 10, start_token=True)
    with pytest.raises(UserError, match="its items are not tokens"):
        genlab.plan("max-retrieval", 10, format="values", start_token=True)


def test_what_new_runs_do_by_default_is_what_learned_best() -> None:
    spec = genlab.plan("count", 10, 20, steps=3000).specs[0]
    train = spec.train
    assert (train.grad_clip, spec.model.init_std, train.lengths_per_batch, train.warmup) == (0.0, 0.02, 64, 100)
    assert genlab.plan("copy", 10, 20).specs[0].model.tie_word_embeddings
    assert not spec.model.tie_word_embeddings
    assert not genlab.plan("copy", 10, 20, unembed_bias=False).specs[0].model.tie_word_embeddings
    assert genlab.plan("count", 10, 20, steps=40).specs[0].train.warmup == 4  # never more than a tenth
    assert genlab.plan("count", 10, 20, recipe="nanogpt").specs[0].train.warmup == 100
    assert (
        genlab.plan("count", 10, 20, recipe="nanogpt", steps=500).specs[0].train.warmup == 10
    )  # its part of training
    assert genlab.plan("count", 10, 20, steps=40, warmup=0).specs[0].train.warmup == 0


def test_a_recipe_goes_before_the_task_and_after_the_user() -> None:
    spec = genlab.plan("copy", 10, 20, recipe="huang", steps=50).specs[0]
    assert (spec.train.schedule, spec.train.grad_clip, spec.train.lr, spec.train.steps) == ("linear", 1.0, 1e-3, 50)
    assert (spec.model.tie_word_embeddings, spec.model.positions, spec.task.start_token) == (True, "learned", True)
    assert genlab.plan("copy", 10, 20, recipe="huang").specs[0].train.steps == 30_000  # whole, whatever it costs
    assert genlab.plan("copy", 10, 20, recipe="lab").specs == genlab.plan("copy", 10, 20).specs
    with pytest.raises(UserError, match="unknown recipe 'huan'; did you mean 'huang'"):
        genlab.plan("copy", 10, 20, recipe="huan")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_can_be_planned(name: str) -> None:
    assert genlab.plan("sort", 10, 20, recipe=name).specs[0].train.lengths_per_batch == (
        RECIPES[name].options.get("batch_size", 64)
    )
