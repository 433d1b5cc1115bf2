"""CPU quotas of containers, from files laid out as Linux has them."""

import pytest

from zeroseg.kernels import _threads
from zeroseg.kernels._cpu_quota import cpu_quota

V1 = "12:memory:{0}\n4:cpu,cpuacct:{0}\n1:name=systemd:{0}\n"
V2 = "0::{0}\n"


def lay_out(root, files: dict[str, str]):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        # docker --cpus=2, seen from inside: v2 with a namespace of its own, v1 whose path is the host's
        ({"proc/self/cgroup": V2.format("/"), "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        (
            {
                "proc/self/cgroup": V1.format("/docker/8f2e"),
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        # systemd: the unit has none, the slice above it 1.5 and that above 4
        (
            {
                "proc/self/cgroup": V2.format("/work.slice/inner.slice/job.service"),
                "sys/fs/cgroup/work.slice/inner.slice/job.service/cpu.max": "max 100000\n",
                "sys/fs/cgroup/work.slice/inner.slice/cpu.max": "75000 50000\n",
                "sys/fs/cgroup/work.slice/cpu.max": "400000 100000\n",
            },
            1.5,
        ),
        # v1 and v2 beside each other, the CPU controller in v1, under the long name of its mount
        (
            {
                "proc/self/cgroup": V1.format("/kubepods/pod1") + V2.format("/kubepods/pod1"),
                "sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        # another group's quota is not ours
        ({"proc/self/cgroup": V2.format("/a"), "sys/fs/cgroup/b/cpu.max": "100000 100000"}, None),
        ({"proc/self/cgroup": V2.format("/"), "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": V1.format("/"),
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc/self/cgroup": V2.format("/"), "sys/fs/cgroup/cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_quota_is_the_least_of_the_groups_above(tmp_path, files, cpus):
    assert cpu_quota(lay_out(tmp_path, files)) == cpus


@pytest.mark.parametrize(
    ("cores", "quota", "threads"), [(64, 2.0, 2), (64, 1.5, 2), (64, 0.5, 1), (4, 8.0, 4), (64, None, 64)]
)
def test_threads_keep_to_affinity_and_quota(monkeypatch, cores, quota, threads):
    monkeypatch.setattr(_threads.os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(_threads, "_quota", lambda: quota)
    monkeypatch.setattr(_threads, "_limit", None)  # another test of this process may have set it
    assert _threads.available_threads() == _threads.threads() == threads


def test_one_thread_holds_for_the_calling_thread_only(monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(_threads, "_limit", 3)
    with ThreadPoolExecutor(1) as pool, _threads.one_thread():
        with _threads.one_thread():
            pass
        assert (_threads.threads(), pool.submit(_threads.threads).result()) == (1, 3)
    assert _threads.threads() == 3
