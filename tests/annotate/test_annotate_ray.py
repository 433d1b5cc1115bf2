"""--ray on a real local cluster of two workers, one killed half-way, gives the tables of a single machine."""

import getpass
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.annotate.conftest import halves
from zeroseg.cli import main

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra annotate)")
ROOT = Path(__file__).resolve().parents[2]
PARTS = 24
pytestmark = pytest.mark.slow


@pytest.fixture
def no_other_cluster():
    """Parallel tests would find each other's clusters, so only one test at a time starts or looks for one."""
    pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    from filelock import FileLock  # Ray needs it itself

    with FileLock(Path(tempfile.gettempdir()) / f"zeroseg-tests-ray-{getpass.getuser()}.lock", timeout=300):
        yield


@pytest.fixture
def cluster(no_other_cluster, monkeypatch):
    """A head without CPUs and two worker nodes with one each, as Ray processes of their own."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the workers' processes inherit it
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20})
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster, nodes
    cluster.shutdown()


def rows(folder) -> list[dict]:
    files = sorted((folder / "parts").glob("*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def test_a_cluster_that_loses_a_worker_equals_one_machine(cluster, color_model, color_labels, tmp_path):
    cluster, nodes = cluster
    (tmp_path / "photos").mkdir()
    for i in range(PARTS):
        halves(i, (1600, 1200)).save(tmp_path / "photos" / f"{i:02}.png", compress_level=0)
    (tmp_path / "photos" / "bad.png").write_bytes(b"no photo")
    args = ["annotate", tmp_path / "photos", "--model", color_model, "--labels", color_labels, "--part-size", 1]
    out = tmp_path / "ray"
    code = "from zeroseg.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, args), "-o", str(out), "--ray", cluster.address]
    job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 150  # Ray runs its workers at a niceness of 15
    while len(list((out / "parts").glob("*.parquet"))) < PARTS // 3:
        assert job.poll() is None and time.monotonic() < until, job.communicate()
        time.sleep(0.02)
    cluster.remove_node(nodes[0], allow_graceful=False)
    left = PARTS + 1 - len(list((out / "parts").glob("*.parquet")))
    assert left > 2, "the worker was to be lost half-way"
    output, errors = job.communicate(timeout=180)
    assert job.returncode == 0, errors
    assert f"{PARTS + 1} photos" in output and f"{PARTS + 1} in " in output
    alone = tmp_path / "alone"
    assert CliRunner().invoke(main, [*map(str, args), "-o", str(alone), "--processes", "1"]).exit_code == 0
    assert rows(out) == rows(alone) and len(rows(out)) == 2 * PARTS + 1


@pytest.mark.parametrize(
    ("address", "ray_there", "message"),
    [
        ("127.0.0.1:1", False, "--ray needs ray, which is not installed: pip install 'zeroseg[ray]'"),
        ("127.0.0.1:1", True, "--ray 127.0.0.1:1: no cluster answers there"),
        ("127.0.0.1:head", True, "expected host:port or auto"),
        ("auto", True, "--ray auto: "),
    ],
)
def test_without_ray_or_a_cluster_it_is_one_line(
    monkeypatch, request, color_model, color_labels, tmp_path, address, ray_there, message
):
    if ray_there:
        request.getfixturevalue("no_other_cluster")
    else:
        monkeypatch.setitem(sys.modules, "ray", None)
    halves(0).save(tmp_path / "0.png")
    args = ["annotate", tmp_path / "0.png", "-o", tmp_path / "out", "--model", color_model, "--labels", color_labels]
    result = CliRunner().invoke(main, [*map(str, args), "--ray", address])
    assert result.exit_code == 1 and message in result.output
    assert result.output.strip().splitlines()[-1].startswith("Error: ")
