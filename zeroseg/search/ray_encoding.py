"""Units encoded on a Ray cluster: Ray Data hands batches of them to its machines, and this process alone writes.

The photos must be on a disk that all machines see under one path. When a machine is lost Ray gives its batches to
another; a batch that was appended is not asked for again.
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

    encoder   what Encoder takes: model, back end, threads; the last is how many CPUs a task takes too.
    on_batch  called with what became of each batch.
    Errors as for zeroseg.annotate.ray_job.cluster.
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
    """One task. A fault of the job is no reason to try again: it is told."""
    try:
        units = _encoder(*encoder).part(pickle.loads(row["batch"]))
    except (ZerosegError, ValueError, OSError) as error:
        return {"units": b"", "error": str(error)}
    return {"units": pickle.dumps(units), "error": ""}
