"""Ray: one stack a task, on two nodes of the loopback range; a node that is killed loses nothing but time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from small_grids import small_grid, start, times_committed

import genlab
from genlab.runs import Store, grid
from genlab.runs.api import Options, wanted_runs
from genlab.runs.leases import active
from genlab.runs.plan import Evals

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    # 127.0.0.1 hangs for minutes: each node gets an address of its own on the loopback range.
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "node_ip_address": "127.0.0.2"})
    made.second = made.add_node(num_cpus=1, node_ip_address="127.0.0.3")
    yield made
    ray.shutdown()
    made.shutdown()


def test_ray_comes_to_the_same_losses(cluster, tmp_path: Path):
    _, found = small_grid(tmp_path, steps=200)
    ids = [run.run_id for run in grid(found, store=tmp_path / "ray", executor="ray", address=cluster.address)]
    grid(found, store=tmp_path / "here", workers=1)
    both = [Store(tmp_path / name).history(ids).set_index(["run_id", "step"])["loss"] for name in ("ray", "here")]
    pd.testing.assert_series_equal(*(losses.sort_index() for losses in both), rtol=1e-4)
    assert torch.isfinite(Store(tmp_path / "ray").weights(ids)).all()


def test_the_command_finds_a_cluster(cluster, tmp_path: Path):
    file, found = small_grid(tmp_path)
    process = start("grid", file, "--store", tmp_path / "s", "--executor", "ray", "--address", cluster.address)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert times_committed(tmp_path / "s") == {spec.run_id: 1 for spec, _ in wanted_runs(found)}


def test_sixteen_runs_come_to_the_same_however_they_are_trained(cluster, tmp_path: Path):
    """Alone, in a stack, in a stack of another order, in processes, on Ray: 200 steps, float32."""
    shared = {"steps": 200, "eval_every": 200, "n_layers": 2, "d_model": 32, "n_heads": 2, "batch_size": 16}
    plan = genlab.plan("sort", 6, 8, seeds=range(16), evals=Evals(8, n=16), **shared)
    ways: dict[str, Options] = {
        "alone": {"workers": 1, "stack": 1},
        "stack": {"workers": 1, "stack": 16},
        "order": {"workers": 1, "stack": 16},
        "processes": {"workers": 2, "stack": 1},
        "ray": {"executor": "ray", "address": cluster.address, "stack": 4},
    }
    losses = {}
    for name, options in ways.items():
        specs = plan.specs[::-1] if name == "order" else plan.specs
        grid(specs, plan.evals, store=tmp_path / name, **options)
        history = Store(tmp_path / name).history([spec.run_id for spec in plan.specs])
        losses[name] = history[history["step"] == 200].set_index("run_id")["loss"].sort_index()
    for name, found in losses.items():
        assert len(found) == 16
        pd.testing.assert_series_equal(found, losses["alone"], rtol=1e-4, obj=name)


def test_a_node_that_is_killed_mid_grid(cluster, tmp_path: Path):
    _, found = small_grid(tmp_path, steps=800, seeds=3)

    def kill_one() -> None:
        while len(active(tmp_path / "s" / "leases")) < 2:
            time.sleep(0.1)
        cluster.remove_node(cluster.second, allow_graceful=False)

    killer = threading.Thread(target=kill_one)
    killer.start()
    runs = grid(found, store=tmp_path / "s", executor="ray", address=cluster.address, checkpoint_minutes=0.01)
    killer.join()
    assert times_committed(tmp_path / "s") == {run.run_id: 1 for run in runs}
    assert len(runs) == 6
