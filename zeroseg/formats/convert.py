"""Convert results into a dataset."""

from collections.abc import Callable, Sequence
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.formats.dataset import Dataset, DatasetOptions, refuse_existing
from zeroseg.formats.results import open_results


def convert(
    sources: Sequence[Path],
    kind: str,
    folder: Path,
    options: DatasetOptions | None = None,
    on_photo: Callable[[int], None] = lambda photos: None,
) -> tuple[int, int]:
    """Write the labels of all photos of all sources as one dataset.

    sources   folders of zeroseg annotate or zeroseg-infer, or JSON files of zeroseg-infer, with the same label list.
    kind      one of zeroseg.formats.kinds.FORMATS.
    folder    the dataset's folder; it must not exist, or must be empty.
    on_photo  called after each photo with the total number of photos.
    Returns (photos in the dataset, photos left out because they could not be labelled). Raises ZerosegError if the
    input is wrong; nothing is written then.
    """
    refuse_existing(folder, "-o")
    results = [open_results(source) for source in sources]
    for other in results[1:]:
        if other.names != results[0].names:
            raise ZerosegError(
                f"{other.source}: was made with other labels than {results[0].source}; convert each label list into a "
                "folder of its own"
            )
    total = sum(one.photos for one in results)
    with Dataset(kind, folder, results[0].names, options or DatasetOptions()) as dataset:
        for one in results:
            for photo in one.read():
                dataset.add(photo)
                on_photo(total)
        if not dataset.photos:
            raise ZerosegError(f"{', '.join(map(str, sources))}: no photo in it could be labelled")
    return dataset.photos, sum(one.bad for one in results)
