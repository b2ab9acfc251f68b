"""Grid files: what they stand for, and every fault of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

import genlab
from genlab.errors import UserError
from genlab.runs.gridfile import parse_range, read_grid

BASE = '[base]\ntask = "sort"\ntrain_len = 5\ntest_len = 8\nsteps = 10\n'


def read(folder: Path, text: str):
    (folder / "g.toml").write_text(text)
    return read_grid(folder / "g.toml")


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(UserError) as error:
        read(folder, text)
    head, *told = str(error.value).splitlines()
    assert head.startswith(f"g.toml has {len(told)} error")
    return [line.strip() for line in told]


def cells(grid) -> set[tuple[float, int]]:
    return {(p.specs[0].train.lr, p.specs[0].model.n_layers) for p in grid.plans}


def test_a_cell_is_what_lab_train_would_plan(tmp_path: Path):
    grid = read(tmp_path, BASE + '[sweep]\nn_layers = [1]\nparams.symbols = [20]\n[seeds]\ntogether = "0:2"\n')
    same = genlab.plan("sort", 5, 8, params={"symbols": 20}, seeds=(0, 1), steps=10, n_layers=1)
    assert (grid.name, [p.specs for p in grid.plans]) == ("g", [same.specs])
    assert grid.plans[0].evals == same.evals


def test_sweep_is_a_product_and_zip_is_side_by_side(tmp_path: Path):
    assert cells(read(tmp_path, BASE + "[sweep]\nlr = [1e-3, 2e-3]\nn_layers = [1, 2]\n")) == {
        (1e-3, 1),
        (1e-3, 2),
        (2e-3, 1),
        (2e-3, 2),
    }
    zipped = "[zip]\nlr = [1e-3, 2e-3]\nn_layers = [1, 2]\n[sweep]\nwarmup = [0, 1, 2]\n"
    grid = read(tmp_path, BASE + zipped)
    assert cells(grid) == {(1e-3, 1), (2e-3, 2)}
    assert len(grid.plans) == 6


def test_a_zip_may_hold_a_value_again(tmp_path: Path):
    grid = read(tmp_path, BASE + "[zip]\nlr = [1e-3, 1e-3, 2e-3]\nn_layers = [1, 2, 2]\n")
    assert cells(grid) == {(1e-3, 1), (1e-3, 2), (2e-3, 2)}


def test_two_zips_are_multiplied(tmp_path: Path):
    grid = read(tmp_path, BASE + "[[zip]]\nlr = [1e-3, 2e-3]\n[[zip]]\nn_layers = [1, 2]\nwarmup = [1, 2]\n")
    assert len(cells(grid)) == 4


def test_exclude_takes_cells_out(tmp_path: Path):
    text = "[sweep]\nlr = [1e-3, 2e-3]\nn_layers = [1, 2]\n[[exclude]]\nlr = 2e-3\nn_layers = 1\n"
    assert (2e-3, 1) not in cells(read(tmp_path, BASE + text))
    assert len(cells(read(tmp_path, BASE + text))) == 3


@pytest.mark.parametrize(
    ("seeds", "pairs"),
    [
        ("[seeds]\ntogether = '3:5'\n", [(3, 3), (4, 4)]),
        ("[seeds]\ninit = '0:2'\ndata = [7, 9]\n", [(0, 7), (0, 9), (1, 7), (1, 9)]),
        ("[seeds]\ninit = [4, 5]\n", [(4, 0), (5, 0)]),
        ("", [(0, 0)]),
    ],
)
def test_init_and_data_seeds_together_or_apart(tmp_path: Path, seeds: str, pairs: list[tuple[int, int]]):
    (plan,) = read(tmp_path, BASE + seeds).plans
    assert [(s.train.init_seed, s.train.data_seed) for s in plan.specs] == pairs


def test_evaluations_are_no_part_of_a_run(tmp_path: Path):
    plain, looked = (read(tmp_path, BASE + t).plans[0] for t in ("", '[evals]\nsplits = ["id", "low"]\nn = 9\n'))
    assert plain.specs == looked.specs
    assert (looked.evals.splits, looked.evals.n, looked.evals.test_len) == (("id", "low"), 9, 8)


def test_steps_to_keep_are_no_part_of_a_run(tmp_path: Path):
    texts = ["", "keep_steps = [2, 5]\n", 'keep_steps = "2:9:3"\n', "keep_steps = 10\n"]
    plans = [read(tmp_path, BASE + "[evals]\n" + text).plans[0] for text in texts]
    assert all(plan.specs == plans[0].specs for plan in plans)
    assert [plan.evals.keep_steps for plan in plans] == [(), (2, 5), (2, 5, 8), (10,)]


BAD = [
    ("colour = 3\n" + BASE, "line 1: unknown key 'colour'"),
    (BASE + "n_layer = 2\n", "line 6: unknown field 'n_layer'; did you mean 'n_layers'?"),
    (BASE + "lr = 0.0\n", "line 6: lr: 0.0 is not allowed (input should be greater than 0)"),
    (BASE + "init_seed = 2\n", "line 6: unknown field 'init_seed'; seeds belong in the table [seeds]"),
    (BASE + "[sweep]\nlearning_rate = [1]\n", "line 7: unknown field 'learning_rate'"),
    (BASE + "[sweep]\nlr = []\n", "line 7: sweep lr is empty: the product has no runs"),
    (BASE + "[sweep]\nlr = 1e-3\n", "line 7: sweep lr is not a list"),
    (BASE + "[sweep]\nlr = [1e-3, 1e-3]\n", "line 7: sweep lr has 0.001 twice: two runs with the same id"),
    (BASE + "[zip]\nlr = [1e-3, 1e-3]\nsteps = [5, 5]\n", "two runs with the same id"),
    (BASE + "[sweep]\nd_mlp = [0, 256]\n", "line 7: two runs with the same id: d_mlp = 0 and d_mlp = 256"),
    (
        BASE + "[sweep]\nn_layers = [1, 2]\nn_heads = [4, 3]\n",
        "line 8: d_model 64 is not divisible by n_heads 3; nearest valid d_model: 63 (or set d_head) "
        "(in configuration n_layers = 1, n_heads = 3 and 1 more)",
    ),
    (BASE + "[zip]\nlr = [1e-3, 2e-3]\neps = [1e-8]\n", "line 6: zip has lists of different lengths (lr 2, eps 1)"),
    (BASE + "[[exclude]]\nlr = 9.0\n", "line 6: exclude matches no configuration: lr = 9.0"),
    (BASE + "[sweep]\nlr = [1e-3]\n[[exclude]]\nlr = 1e-3\n", "exclude leaves no configurations"),
    (BASE + "[seeds]\ninit = []\n", "line 7: init [] is not allowed"),
    (BASE + "[seeds]\ntogether = [1, 1]\n", "line 7: together has a seed twice"),
    (BASE + "[seeds]\ntogether = 3\ninit = 3\n", "not both"),
    (BASE + "[evals]\nm = 3\n", "line 7: unknown key 'm'"),
    (BASE + "[evals]\nn = 0\n", "line 7: n: 0 is not allowed (an integer, 1 or more)"),
    (BASE + '[evals]\nsplits = ["lo"]\n', "did you mean 'low'?"),
    (BASE + "[evals]\nkeep_steps = [3, 11]\n", "line 7: keep_steps 11 is beyond the 10 steps of training"),
    (BASE + "[evals]\nkeep_steps = [-3]\n", "line 7: keep_steps [-3] is not allowed (a number, a list of numbers"),
    (BASE + '[evals]\nkeep_steps = "x"\n', "line 7: keep_steps: 'x' is not an integer"),
    (BASE + "[evals]\nkeep_steps = 2.5\n", "line 7: keep_steps 2.5 is not allowed"),
    (
        BASE + "[sweep]\nsteps = [10, 4]\n[evals]\nkeep_steps = 5\n",
        "beyond the 4 steps of training (in configuration steps = 4)",
    ),
    ('[base]\ntask = "srt"\ntrain_len = 3\n', "line 2: unknown task 'srt'; did you mean 'sort'?"),
    ('[base]\ntask = "sort"\n', "line 1: train_len is missing"),
    ("base = 3\n", "line 1: base must be a table"),
    ('name = "a/b"\n' + BASE, "line 1: name 'a/b' is not allowed"),
    (BASE.replace("5", '"five"'), "line 3: train_len: 'five' is not allowed (an integer)"),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[said[:40] for _, said in BAD])
def test_a_fault_is_told_with_its_line(tmp_path: Path, text: str, said: str):
    (told,) = faults(tmp_path, text)
    assert said in told


def test_all_faults_are_told_at_once(tmp_path: Path):
    text = (
        BASE
        + "n_layer = 2\n[sweep]\nlr = []\nn_heads = [2, 3]\nwarmup = [-1]\n[evals]\nm = 3\n[[exclude]]\nlr = 9.0\n"
    )
    told = faults(tmp_path, text)
    assert [line.split(":")[0] for line in told] == [f"line {n}" for n in (6, 8, 9, 10, 12, 13)]


def test_what_is_no_toml_says_where(tmp_path: Path):
    with pytest.raises(UserError, match=r"g.toml is not valid TOML.*line 2"):
        read(tmp_path, "a = 1\nb = = 2\n")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_grid(tmp_path / "gone.toml")


def test_a_recipe_is_found_from_any_folder_by_its_path_or_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert read_grid("recipes/smoke.toml").name == read_grid("smoke").name == "smoke"
    (tmp_path / "smoke").mkdir()  # a folder of that name is no file
    assert read_grid("smoke").name == "smoke"
    with pytest.raises(UserError, match="cannot be read"):
        read_grid("elsewhere/smoke.toml")
    (tmp_path / "smoke.toml").write_text("[base]\ntask = 'sort'\ntrain_len = 3\n[evals]\nn = 1")
    assert len(read_grid("smoke.toml").plans) == 1  # the user's own goes first


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "recipes").glob("*.toml")), ids=lambda p: p.name)
def test_every_recipe_is_a_grid(file: Path):
    assert read_grid(file).plans


RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize(("file", "runs", "pairs"), [("brackets.toml", 270, 15), ("brackets-small.toml", 10, 5)])
def test_the_bracket_recipes_follow_the_published_protocol(file: str, runs: int, pairs: int):
    """Li et al. 2025 (arXiv 2507.06445): what every run has, whatever its setting."""
    plans = read_grid(RECIPES / file).plans
    specs = [spec for plan in plans for spec in plan.specs]
    assert (len(specs), {len(plan.specs) for plan in plans}) == (runs, {pairs})
    for spec in specs:
        model, train = spec.model, spec.train
        assert (spec.task.format, spec.task.params) == ("published", {"redraw": "same-length"})
        assert (model.n_ctx, model.act_fn, model.unembed_bias, model.init_std) == (42, "gelu_new", False, 0.02)
        assert (model.d_model, model.d_mlp, model.positions, model.scale_residual_init) == (64, 256, "learned", True)
        assert (train.optimizer, train.decay, train.schedule, train.grad_clip) == ("adam", "all", "constant", 0)
        assert (train.pool, train.lengths_per_batch) == (200_000, train.batch_size)
        assert {**model.model_dump(), **train.model_dump()}["offsets"] == "zero"
    if runs == 270:
        assert {(spec.train.steps * spec.train.batch_size, spec.train.lr) for spec in specs} == {(5 * 200_000, 1e-4)}
        assert len({(s.model.n_layers, s.model.n_heads, s.train.weight_decay) for s in specs}) == 18
        assert {(s.train.init_seed, s.train.data_seed) for s in specs} == {(i, j) for i in range(5) for j in range(3)}


def test_ranges_of_lengths_include_both_ends_and_ranges_of_seeds_do_not():
    assert parse_range("5:50:5", "--lengths", inclusive=True)[-2:] == [45, 50]
    assert parse_range("0:4", "--seeds") == [0, 1, 2, 3]
    assert parse_range("3:3", "--lengths", inclusive=True) == [3]
