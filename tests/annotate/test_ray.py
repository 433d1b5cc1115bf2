"""The same job on a real Ray cluster of two workers on this machine, one of them killed half-way."""

import threading

import pytest
from click.testing import CliRunner

from tests.annotate.conftest import halves
from tests.annotate.test_annotate import rows, wait_for
from zeroseg.cli import main

pytest.importorskip("pyarrow")
pytest.importorskip("ray", reason="ray is not installed: pip install 'zeroseg[ray]'")


@pytest.fixture
def cluster():
    """A head that does no work and two workers of one CPU each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20})
    workers = [cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20) for _ in range(2)]
    yield cluster, workers
    cluster.shutdown()


def test_a_lost_worker_changes_nothing(cluster, collection, color_model, color_labels, monkeypatch):
    cluster, workers = cluster
    monkeypatch.chdir(collection)
    for i in range(24):
        path = collection / "many" / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        halves(i, (1200, 1000)).save(path, compress_level=0)
    job = ["annotate", "many", "more", "--model", color_model, "--labels", color_labels, "--part-size", 1]
    parts, done_then = collection / "out" / "parts", []

    def lose_a_worker():
        wait_for(lambda: parts.is_dir() and len(list(parts.glob("*.parquet"))) >= 4, seconds=120)
        done_then.append(len(list(parts.glob("*.parquet"))))
        cluster.remove_node(workers[0], allow_graceful=False)

    loser = threading.Thread(target=lose_a_worker)
    loser.start()
    result = CliRunner().invoke(main, [*map(str, job), "-o", "out", "--ray", cluster.address])
    loser.join()
    assert 4 <= done_then[0] < 31
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(main, [*map(str, job), "-o", "single", "--processes", "1"]).exit_code == 0
    assert rows("out") == rows("single") and len({row["path"] for row in rows("out")}) == 31


def test_no_cluster_is_one_line(collection, color_model, color_labels, monkeypatch):
    monkeypatch.chdir(collection)
    result = CliRunner().invoke(main, ["annotate", "album", "--model", str(color_model), "--labels", str(color_labels),
                                       "-o", "out", "--ray", "127.0.0.1:1"])
    assert result.exit_code != 0 and "--ray 127.0.0.1:1: " in result.output and "Traceback" not in result.output
