"""The same job on a Ray cluster: Ray Data distributes the numbers of the parts to its machines.

Every machine reads the job and writes its tables to the same folder as a single machine would, so all machines must see
the output folder and the photos. Parts are plain tasks, not actors: when a machine is lost, Ray gives its tasks to
another. A part that has a table is skipped. A table gets its name by a rename, so it is complete and exists once. A Ray
process keeps its model from task to task.
"""

import functools
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zeroseg.annotate.job import Labeller, part_file
from zeroseg.collection.plan import Plan
from zeroseg.errors import ZerosegError, missing_extra

CONNECT_S = 5  # Ray itself would try for minutes, silently
BLOCKS_MAX = 10_000  # tasks; each costs some milliseconds


def label_on_ray(folder: Path, parts: list[int], address: str, threads: int, on_photos: Callable[[int], None]) -> None:
    """Label parts of the job in folder on the cluster at address ("auto", "host:port", "local").

    threads    CPUs that a task takes.
    on_photos  called with the number of photos that were labelled.
    Raises UnavailableError without ray, ZerosegError if the cluster cannot be reached or a task finally fails.
    """
    plan = Plan(folder)
    with cluster(address) as ray_data:
        data = ray_data.from_items(list(map(int, parts)), override_num_blocks=min(len(parts), BLOCKS_MAX))
        done = data.map(_label, fn_kwargs={"folder": str(folder)}, num_cpus=threads)
        for row in done.iter_rows():
            if row["error"]:
                raise ZerosegError(row["error"])
            on_photos(plan.size(row["part"]))


@contextmanager
def cluster(address: str) -> Iterator:
    """Connect to the cluster at address and yield ray.data, without its log output.

    Raises UnavailableError without ray, ZerosegError if the cluster cannot be reached or a task finally fails.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise missing_extra("ray", "ray", "--ray") from error
    _knock(address)
    context = None
    try:
        context = ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        settings = ray.data.DataContext.get_current()
        settings.enable_progress_bars = False
        settings.print_on_execution_start = False
        settings.retried_io_errors = []
        yield ray.data
    except (ConnectionError, ray.exceptions.RayError, RuntimeError) as error:
        cause = getattr(error, "cause", None) or error
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise ZerosegError(f"--ray {address}: {lines[-1]}") from error
    finally:
        if context is not None:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise ZerosegError unless something listens at an address of the form [ray://]host:port."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return  # auto, local: Ray knows at once
    if not port.isdecimal():
        raise ZerosegError(f"--ray {address}: expected host:port or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ZerosegError(
            f"--ray {address}: no cluster answers there ({error}); start one with ray start --head"
        ) from error


@functools.cache
def _labeller(folder: str) -> Labeller:
    return Labeller(folder)


def _label(row: dict, folder: str) -> dict:
    """One task: label a part unless its table exists. A fault is returned, because Ray would repeat a failed task."""
    part = int(row["item"])
    try:
        if not part_file(Path(folder), part).is_file():
            _labeller(folder).part(part)
    except (ZerosegError, ValueError, OSError) as error:
        return {"part": part, "error": str(error)}
    return {"part": part, "error": ""}
