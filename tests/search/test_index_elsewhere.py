"""A collection made on a Ray cluster, and one in S3-compatible storage, equal a local one."""

import pytest

from tests.annotate.test_annotate_ray import no_other_cluster  # noqa: F401 (a fixture)
from tests.search.conftest import command, table_rows
from zeroseg.search.collection import Collection
from zeroseg.words import LabelPack


@pytest.mark.slow
def test_a_cluster_gives_the_same_table(no_other_cluster, indexed, color_model, monkeypatch):  # noqa: F811
    from pathlib import Path

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    done = command("index", "album", "-o", "ray", "--model", color_model, "--ray", "local")
    assert done.exit_code == 0 and "5 new or changed" in done.output and "Ray at local" in done.output, done.output
    assert table_rows("ray") == table_rows(indexed)
    assert "1 bad files: ray/bad.txt" in done.output


@pytest.fixture
def bucket(monkeypatch):
    """The address of a bucket on a stand-in for S3, on this machine."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server", reason="moto's server is not installed").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="photos")
    yield "s3://photos/collection"
    server.stop()


def test_s3_storage_holds_the_same_table(bucket, indexed, album, color_model, color_words_file):
    args = ("index", "album", "-o", bucket, "--model", color_model, "--processes", 1)
    done = command(*args)
    assert done.exit_code == 0 and f"5 images in {bucket}: 5 new" in done.output, done.output
    (album / "0_red.png").unlink()
    done = command(*args)
    assert done.exit_code == 0 and "0 new or changed, 1 vanished" in done.output, done.output
    assert command("index", "-o", indexed, "--model", color_model, "--processes", 1).exit_code == 0
    red = LabelPack.load(color_words_file).pick(["red"])
    red.save("red.npz")
    found = [
        [(hit.path, hit.score, hit.box) for hit in opened.search("red", text="red.npz")]
        for opened in (Collection.open(bucket, options=storage()), Collection.open(indexed))
    ]
    assert found[0] == found[1] and len(found[0]) == 4


def storage():
    from zeroseg.commands.index_run import storage_options

    return storage_options()
