"""Ray: one stack a task, on two nodes of the loopback range; a node that is killed loses nothing but time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from small_grids import small_grid, times_committed

from genlab.runs import Store, grid
from genlab.runs.leases import active

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
