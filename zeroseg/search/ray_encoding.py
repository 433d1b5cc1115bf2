"""Encode units on a Ray cluster: Ray Data distributes batches to the machines, and only this process writes.

All machines must see the photos under the same path. If a machine is lost, Ray gives its batches to another. A batch
that was appended is not encoded again.
"""

import functools
import pickle
from collections.abc import Callable, Iterable

from zeroseg.annotate.ray_job import BLOCKS_MAX, cluster
from zeroseg.errors import ZerosegError
from zeroseg.search.encoding import Batch, EncodedUnit, Encoder


def encode_on_ray(
    batches: Iterable[Batch],
    encoder: tuple[str | None, str, int],
    address: str,
    on_batch: Callable[[list[EncodedUnit]], None],
) -> None:
    """Encode batches on the cluster at address ("auto", "host:port", "local").

    encoder   the arguments of Encoder: model, back end, threads. threads is also the number of CPUs per task.
    on_batch  called with the encoded units of each batch.
    Raises the errors of zeroseg.annotate.ray_job.cluster, and ZerosegError if a batch fails.
    """
    packed = [pickle.dumps(batch) for batch in batches]
    with cluster(address) as ray_data:
        data = ray_data.from_items([{"batch": one} for one in packed], override_num_blocks=min(len(packed), BLOCKS_MAX))
        for row in data.map(_encode, fn_kwargs={"encoder": encoder}, num_cpus=encoder[2]).iter_rows():
            if row["error"]:
                raise ZerosegError(row["error"])
            on_batch(pickle.loads(row["units"]))


@functools.cache
def _encoder(model: str | None, backend: str, threads: int) -> Encoder:
    return Encoder(model, backend, threads)


def _encode(row: dict, encoder: tuple[str | None, str, int]) -> dict:
    """One task. A fault is returned, because Ray would repeat a failed task."""
    try:
        units = _encoder(*encoder).part(pickle.loads(row["batch"]))
    except (ZerosegError, ValueError, OSError) as error:
        return {"units": b"", "error": str(error)}
    return {"units": pickle.dumps(units), "error": ""}
