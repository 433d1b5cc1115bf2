import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zeroseg.errors import ZerosegError
from zeroseg.training import row_cache
from zeroseg.training.row_cache import RowCache, other_versions

ARRAYS = {"a": ((2, 3), "float16"), "b": ((), "int64")}


def value(row):
    return {"a": np.full((2, 3), row / 4), "b": row * 10}


def filled(root, rows=5, key=None):
    cache = RowCache(root, "test", key or {"x": 1}, ARRAYS, rows)
    for row in cache.pending():
        cache.write(row, value(row))
    cache.finish()
    return cache


def test_values_survive_closing_and_skipped_rows_are_told(tmp_path):
    cache = RowCache(tmp_path, "test", {"x": 1}, ARRAYS, 4)
    for row in (0, 1, 3):
        cache.write(row, value(row))
    cache.skip(2)
    cache.finish()
    again = RowCache(tmp_path, "test", {"x": 1}, ARRAYS, 4)
    assert again.complete and list(again.readable()) == [0, 1, 3] and list(again.unreadable()) == [2]
    for row in (0, 1, 3):
        np.testing.assert_array_equal(again.arrays["a"][row], np.full((2, 3), row / 4, np.float16))
        assert again.arrays["b"][row] == row * 10
    with pytest.raises(ValueError, match="read-only"):
        again.arrays["b"][0] = 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [again.folder.name]


def test_a_killed_job_goes_on_where_it_stopped(tmp_path):
    cache = RowCache(tmp_path, "test", {"x": 1}, ARRAYS, 4)
    cache.write(0, value(0))
    cache.write(1, value(1))
    cache.arrays["b"][1] = -1  # half-written when the machine went down: the checksum no longer holds
    cache.close()
    again = RowCache(tmp_path, "test", {"x": 1}, ARRAYS, 4)
    assert not again.complete and list(again.pending()) == [1, 2, 3]
    assert again.arrays["b"][0] == 0


def test_rows_survive_a_kill(tmp_path):
    job = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom zeroseg.training.row_cache import RowCache\n"
        f"cache = RowCache(Path({str(tmp_path)!r}), 'test', {{'x': 1}}, {ARRAYS!r}, 4)\n"
        "cache.write(2, {'a': 0.5, 'b': 20})\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", job], cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    again = RowCache(tmp_path, "test", {"x": 1}, ARRAYS, 4)  # its lock died with it
    assert list(again.pending()) == [0, 1, 3] and again.arrays["b"][2] == 20
    again.close()


def test_unfilled_cache_is_not_made_complete(tmp_path):
    cache = RowCache(tmp_path, "test", {"x": 1}, ARRAYS, 4)
    cache.write(0, value(0))
    with pytest.raises(ZerosegError, match="3 of 4 rows are not filled"):
        cache.finish()


def test_two_jobs_do_not_fill_one_cache(tmp_path):
    pytest.importorskip("fcntl")
    first = RowCache(tmp_path, "test", {"x": 1}, ARRAYS, 4)
    with pytest.raises(ZerosegError, match="another process"):
        RowCache(tmp_path, "test", {"x": 1}, ARRAYS, 4)
    first.close()
    RowCache(tmp_path, "test", {"x": 1}, ARRAYS, 4).close()


def damage_size(folder):
    with open(folder / "a.bin", "r+b") as file:
        file.truncate(10)


def damage_value(folder):
    data = np.memmap(folder / "b.bin", "int64", "r+")
    data[1] += 1
    data.flush()


def damage_index(folder):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"rows": 6}))


def damage_status(folder):
    np.memmap(folder / "status.bin", "uint8", "r+")[0] = row_cache.PENDING


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_size, r"a.bin has 10 bytes, expected 60"),
        (damage_value, "row 1 is damaged"),
        (damage_index, "index.json does not describe"),
        (damage_status, "rows are missing"),
    ],
)
def test_damage_is_noticed_and_the_remedy_named(tmp_path, damage, message):
    cache = filled(tmp_path)
    damage(cache.folder)
    with pytest.raises(ZerosegError, match=message) as error:
        RowCache(tmp_path, "test", {"x": 1}, ARRAYS, 5)
    assert f"delete {cache.folder}" in str(error.value) and "\n" not in str(error.value)
    shutil.rmtree(cache.folder)
    filled(tmp_path)


def test_another_key_is_another_cache(tmp_path):
    first = filled(tmp_path, key={"x": 1, "photos": "p"})
    second = filled(tmp_path, key={"x": 1, "photos": "q"})
    third = filled(tmp_path, key={"x": 2, "photos": "q"})
    assert len({first.folder, second.folder, third.folder}) == 3
    assert other_versions(second, "photos") == [first.folder.name] and other_versions(third, "photos") == []


def test_no_room_on_the_disk_is_said_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(row_cache.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 10))
    with pytest.raises(ZerosegError, match="GB are needed"):
        RowCache(tmp_path, "test", {"x": 1}, ARRAYS, 5)
