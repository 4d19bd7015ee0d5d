"""The engine `ray` on a cluster of two nodes on this machine, one of which is lost in the middle."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmfuse.bench.engines.base import Limits
from mmfuse.bench.job import Job
from mmfuse.bench.runner import Runner, Tally, Task
from mmfuse.errors import MmfuseError
from mmfuse.records.cell import Cell
from mmfuse.records.folder import ResultsFolder
from tests.bench import added
from tests.bench.harness import RUNNER, Silent, cells, plan, ran, states

# Keeps the cluster of the test on 127.0.0.1: without it Ray looks for an address that others can reach.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
ray = pytest.importorskip("ray")
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(REPOSITORY)  # what a cluster's nodes have installed
    head = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False, "object_store_memory": 10**8}
    made = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=made.address, log_to_driver=False, logging_level="error")
    yield made
    ray.shutdown()
    made.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def run(
    path: Path, wanted: list[Cell], *, total: float | None = None, workers: int | None = None, share: float = 1.0
) -> Tally:
    from mmfuse.bench.engines.ray import RayEngine

    folder = ResultsFolder(path)
    tasks = [
        Task(entry, Job(cell=entry.cell, known=entry.planned.inputs, log_folder=str(path)))
        for entry in plan(folder, wanted)
    ]
    engine = RayEngine(limits=Limits(total=total), runner=RUNNER, workers=workers, share=share)
    return Runner(folder=folder, tasks=tasks, engine=engine, view=Silent()).run()


def test_cells_come_back_over_ray_and_failures_are_named(cluster: Any, tmp_path: Path) -> None:
    wanted = cells("one", "wrong", "two")
    tally = run(tmp_path, wanted)
    assert (tally.done, len(tally.failed)) == (2, 1)
    assert states(tmp_path, wanted) == {"one/0": "done", "wrong/0": "failed", "two/0": "done"}
    assert len(list((tmp_path / "records").glob("*.csv.gz"))) == 2


def test_each_process_keeps_its_gpu_also_where_cells_share_one(cluster: Any, tmp_path: Path) -> None:
    """Ray takes our word for GPUs, and hands them out by CUDA_VISIBLE_DEVICES."""
    node = cluster.add_node(num_cpus=4, num_gpus=2, node_ip_address="127.0.0.1", object_store_memory=10**8)
    cluster.wait_for_nodes()
    wanted = cells("where", "poisons-once", draws=8)
    assert run(tmp_path, wanted, share=0.5).done == 16
    seen = [tuple(line.split()) for line in (tmp_path / "where.txt").read_text().splitlines()]
    cluster.remove_node(node)
    assert len(seen) == 24  # eight of them a second time
    held = {process: {gpu for other, gpu in seen if other == process} for process, _ in seen}
    assert all(len(gpus) == 1 for gpus in held.values())
    assert set().union(*held.values()) == {"0", "1"}


def test_what_an_actor_asks_for() -> None:
    from mmfuse.bench.engines.ray import _needs

    nodes = [{"CPU": 8.0}, {"CPU": 64.0, "GPU": 3.0}, {"CPU": 64.0, "GPU": 4.0}]
    assert _needs(nodes, devices=1, share=0.5) == ({"num_cpus": 1, "num_gpus": 0.5}, 14)
    # The devices of one cell are those of one node: the third GPU of the second node is left over.
    assert _needs(nodes, devices=2, share=1.0) == ({"num_cpus": 1, "num_gpus": 2}, 3)
    assert _needs(nodes[:1], devices=2, share=1.0) == ({"num_cpus": 2}, 4)
    with pytest.raises(MmfuseError, match="wants 8 devices; no node of the cluster has more than 4"):
        _needs(nodes, devices=8, share=1.0)


def test_a_hung_cell_is_stopped(cluster: Any, tmp_path: Path) -> None:
    wanted = cells("hangs", "one")
    run(tmp_path, wanted, total=12)  # a worker may take seconds to start on a busy machine
    assert states(tmp_path, wanted) == {"hangs/0": "failed", "one/0": "done"}


def test_a_lost_node_costs_no_cell(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1", object_store_memory=10**8)
    cluster.wait_for_nodes()
    wanted = cells("slower", "slower2", draws=3)

    def lose() -> None:
        """Take the larger node away while its cells run."""
        while len(ran(tmp_path)) < 3:
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=lose)
    thread.start()
    tally = run(tmp_path, wanted, workers=3)
    thread.join()
    assert set(states(tmp_path, wanted).values()) == {"done"}, tally.failed
    begun = Counter(ran(tmp_path))
    assert set(begun) == {one.name for one in wanted}
    assert max(begun.values()) > 1, "no cell was lost with the node"


def test_draws_are_added_over_ray_as_on_one_machine(cluster: Any, tmp_path: Path) -> None:
    from mmfuse.bench.engines.ray import RayEngine

    engine = RayEngine(limits=Limits(), runner=RUNNER, workers=2)
    assert added.run(tmp_path / "ray", local=engine).failed == []
    added.run(tmp_path / "here", workers=2)
    assert added.known(tmp_path / "ray") == added.known(tmp_path / "here")
