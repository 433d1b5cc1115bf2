"""How many CPUs a container may use, as its control groups say (docker --cpus, Kubernetes limits, systemd CPUQuota)."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_V1_MOUNTS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


def cpu_quota(root: str | Path = "/") -> float | None:
    """CPUs that this process may use at a time, the least of all groups above it; None where there is no limit.

    root: where proc and sys are. Reads cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us over cpu.cfs_period_us).
    """
    return min((quota for folder in _groups(Path(root)) if (quota := _quota(folder))), default=None)


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's CPU groups. In a container the path that proc tells may be the host's, of which
    only the end or nothing is there: then the mount itself is the group."""
    base = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts = [base, base / "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [base / name for name in _V1_MOUNTS]
        else:
            continue
        steps = PurePosixPath(path.lstrip("/"))
        yield from (mount / step for mount in mounts for step in (steps, *steps.parents))


def _quota(folder: Path) -> float | None:
    told = _text(folder / "cpu.max").split()
    if not told:
        told = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota, period = (int(number) for number in told)
    except ValueError:  # "max", or no such files
        return None
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
