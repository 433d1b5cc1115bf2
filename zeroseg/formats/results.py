"""Read the results of zeroseg-infer and zeroseg annotate, photo by photo."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from zeroseg.collection.plan import Plan
from zeroseg.errors import ZerosegError
from zeroseg.formats.photo import Found, LabelledPhoto
from zeroseg.photos.listing import printable
from zeroseg.words import LabelPack


@dataclass
class Results(ABC):
    """names: the label list; photos: their number, with bad ones; bad: how many of those read so far were bad."""

    names: list[str]
    photos: int
    source: Path
    bad: int = 0

    @abstractmethod
    def read(self) -> Iterator[LabelledPhoto]:
        """The labelled photos, in the order of the results. Raises ZerosegError, naming the file, if one is damaged."""


def open_results(path: Path) -> Results:
    """Open a folder of zeroseg annotate, a folder of zeroseg-infer, or one JSON file of zeroseg-infer.

    Raises ZerosegError if it has no results.
    """
    if (path / "job.json").is_file():
        return _Collection(path)
    if not path.exists():
        raise ZerosegError(f"{path}: no such file or folder; expected what zeroseg-infer or zeroseg annotate wrote")
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    files = [file for file in files if not path.is_dir() or _document(file) is not None]
    if not files or _document(files[0]) is None:
        raise ZerosegError(
            f"{path}: has no zeroseg results; expected a folder of zeroseg annotate, or of zeroseg-infer with "
            "--save json"
        )
    return _Photos(path, files)


class _Collection(Results):
    """The tables of zeroseg annotate."""

    def __init__(self, folder: Path):
        self._plan = Plan(folder)
        super().__init__(LabelPack.load(folder / "labels.npz").names, self._plan.photos, folder)

    def read(self) -> Iterator[LabelledPhoto]:
        from zeroseg.annotate.job import part_file, read_part, require_pyarrow

        require_pyarrow()
        index = {name: i for i, name in enumerate(self.names)}
        columns = ["path", "height", "width", "label", "score", "rle", "error"]
        for number in range(self._plan.parts):
            if not part_file(self.source, number).is_file():
                raise ZerosegError(
                    f"{self.source}: not all of its {self._plan.photos} photos are labelled yet; run the same "
                    "zeroseg annotate command again"
                )
            table = read_part(self.source, number, columns)
            rows = groupby(zip(*table.values(), strict=True), lambda row: row[0])
            for photo, (name, labels) in zip(self._plan.part(number), rows, strict=True):
                labels = list(labels)
                _, height, width, _, _, _, error = labels[0]
                if name != printable(photo.path):
                    raise ZerosegError(
                        f"{part_file(self.source, number)}: does not match the list of photos (plan.jsonl)"
                    )
                if error is not None:
                    self.bad += 1
                    continue
                found = [
                    Found(index[label], score, {"size": [height, width], "counts": rle})
                    for _, _, _, label, score, rle, _ in labels
                    if label is not None
                ]
                yield LabelledPhoto(name, (height, width), found, photo.read)


class _Photos(Results):
    """The JSON files of zeroseg-infer."""

    def __init__(self, source: Path, files: list[Path]):
        self._files = files
        super().__init__([label["name"] for label in _document(files[0])["labels"]], len(files), source)

    def read(self) -> Iterator[LabelledPhoto]:
        for file in self._files:
            document = _document(file)
            try:
                names = [label["name"] for label in document["labels"]]
                if names != self.names:
                    raise ZerosegError(
                        f"{file}: was made with other labels than {self._files[0]}; convert each label list into a "
                        "folder of its own"
                    )
                found = [Found(one["category_id"] - 1, one["score"], one["segmentation"]) for one in document["found"]]
                name, size = document["image"], tuple(document["size"])
            except (KeyError, TypeError) as error:
                raise ZerosegError(f"{file}: is damaged or from another version ({error!r})") from error
            yield LabelledPhoto(name, size, found, partial(_read, name))


def _read(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read()


def _document(file: Path) -> dict | None:
    """A photo's results from a JSON file; None if the file holds anything else."""
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError) and not os.path.isdir(file):
            raise ZerosegError(f"{file}: cannot be read ({error.strerror})") from error
        return None
    ours = isinstance(document, dict) and {"image", "model", "labels", "found", "size"} <= document.keys()
    return document if ours else None
