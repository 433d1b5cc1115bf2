"""A collection on disk: a LanceDB database of three tables, in a folder or in S3-compatible storage.

    segments  one row per segment, which repeats the data of its image: see columns()
    without   units without an image: bad files, with the reason, and stretches of videos without a frame
    about     one row of JSON: format, model, sidecar, sources (real path -> its name), every_s of videos

A unit is appended completely, in one commit. So a unit with a row in `segments` or `without` is done. Images whose file
has changed or vanished are deleted before anything is appended. One process at a time may write (`Store.writing`).
"""

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np

from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.files import make_folder
from zeroseg.photos.listing import printable
from zeroseg.search.encoding import EncodedUnit
from zeroseg.search.units import Key
from zeroseg.sidecar import Sidecar, parse_sidecar

FORMAT = 2
SEGMENTS, WITHOUT, ABOUT = "segments", "without", "about"
_KEY = ("file", "offset", "stretch")
_STAT = ("bytes", "mtime_ns")
_AT_ONCE = 1000  # images in one condition


class Store:
    """The tables of a collection. path: a folder, or an address such as s3://bucket/collection.

    options  LanceDB's storage_options, such as the endpoint of S3-compatible storage.
    """

    def __init__(self, path: str | os.PathLike, options: dict[str, str] | None = None):
        lancedb = load_lancedb()
        self.path, self.options = os.fspath(path), options
        self.remote = "://" in self.path
        with one_line(self.path):
            self._db = lancedb.connect(self.path if self.remote else Path(self.path), storage_options=options)
            self.exists = ABOUT in _names(self._db)
        self._tables: dict = {}

    def table(self, name: str):
        """An open table. Raises ZerosegError if there is no collection, or if it cannot be read."""
        if name not in self._tables:
            if not self.exists:
                raise ZerosegError(f"{self.path}: is not a collection; make one with: zeroseg index PHOTOS -o DIR")
            with one_line(self.path):
                self._tables[name] = self._db.open_table(name)
        return self._tables[name]

    def about(self) -> dict:
        """The description, with `sidecar` as a Sidecar. Raises ZerosegError if it has another format."""
        with one_line(self.path):
            document = json.loads(self.table(ABOUT).to_arrow()["json"][0].as_py())
        if document.get("format") != FORMAT:
            raise ZerosegError(
                f"{self.path}: a collection of format {document.get('format')!r}, this version of zeroseg reads "
                f"{FORMAT}; use the version that made it, or make it again"
            )
        return document | {"sidecar": parse_sidecar(document["sidecar"], self.path)}

    def create(self, sidecar: Sidecar, about: dict) -> None:
        """Create the empty tables; `about` comes last, so a collection without it does not exist yet."""
        if not self.remote:
            make_folder(Path(self.path), "-o")
        with one_line(self.path):
            self._make(SEGMENTS, schema=_schema(columns(sidecar.embedding_dim)))
            self._make(WITHOUT, schema=_schema(without_columns()))
        self.describe(sidecar, about)

    def describe(self, sidecar: Sidecar, about: dict) -> None:
        """Write the description."""
        import pyarrow as pa

        document = {"format": FORMAT, **about, "sidecar": sidecar.to_dict() | {"card": {}}}
        with one_line(self.path):
            self._make(ABOUT, pa.table({"json": [json.dumps(document)]}))
        self.exists = True

    def _make(self, name: str, rows=None, schema=None) -> None:
        """Create or replace a table. LanceDB warns if the table to replace does not exist."""
        mode = "overwrite" if name in _names(self._db) else "create"
        self._tables[name] = self._db.create_table(name, rows, schema=schema, mode=mode)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the collection for writing on this machine. Raises ZerosegError if another process has the lock.

        The lock ends with its process. Remote storage has no lock; there the user must run one command at a time.
        """
        if self.remote:
            yield
            return
        make_folder(Path(self.path), "-o")
        with open(Path(self.path) / ".writing", "w") as file:
            if not _lock(file):
                raise ZerosegError(f"{self.path}: another zeroseg index is writing there; wait for it, or end it")
            yield

    def done(self) -> dict[Key, tuple[int, int, int]]:
        """The units that are done: key -> (bytes, mtime_ns, number of its first image or -1)."""
        found: dict[Key, tuple[int, int, int]] = {}
        for table, where in ((SEGMENTS, "segment = 0"), (WITHOUT, None)):
            names = [*_KEY, *_STAT, *(["image"] if table == SEGMENTS else [])]
            for batch in self.scan(table, names, where):
                values = batch.to_pydict()
                images = values.get("image") or [-1] * batch.num_rows
                for *key, size, mtime_ns, image in zip(*(values[name] for name in (*_KEY, *_STAT)), images):
                    found.setdefault(Key(*key), (size, mtime_ns, image))
        return found

    def scan(self, table: str, names: Sequence[str], where: str | None = None, row_ids: bool = False) -> Iterator:
        """Arrow record batches of columns of a table, in the order of its rows; row_ids adds _rowid."""
        with one_line(self.path):
            query = self.table(table).search().select(list(names)).with_row_id(row_ids)
            query = query if where is None else query.where(where)
            yield from query.to_batches()

    def rows(self, ids: Sequence[int], names: Sequence[str]):
        """An Arrow table of rows of `segments` by their _rowid, in the order of ids."""
        with one_line(self.path):
            query = self.table(SEGMENTS).take_row_ids(np.asarray(ids).tolist()).select(list(names))
            table = query.with_row_id().to_arrow()
        found = np.asarray(table["_rowid"]).astype(np.int64)
        if np.array_equal(found, ids):
            return table
        by_id = np.argsort(found)
        order = by_id[np.minimum(np.searchsorted(found, ids, sorter=by_id), len(found) - 1)] if len(found) else by_id
        if not np.array_equal(found[order], ids):
            raise ZerosegError(f"{self.path}: images were deleted during the search; search again")
        return table.take(order)

    def rows_of_version(self, version: int, ids: Sequence[int], names: Sequence[str]):
        """rows() of one version of the table; None if another is open here, or if this one has been removed."""
        try:
            found = self.rows(ids, names) if self.table(SEGMENTS).version == version else None
        except ZerosegError:
            return None
        return found if self.table(SEGMENTS).version == version else None

    def next_image(self) -> int:
        """A number that no image has."""
        return 1 + max(
            (int(np.max(batch["image"])) for batch in self.scan(SEGMENTS, ["image"], "segment = 0")), default=-1
        )

    def append(self, units: Sequence[EncodedUnit], first_image: int) -> int:
        """Append units; return the next free image number. Appended units survive a kill."""
        import pyarrow as pa

        good, bare, image = [], [], first_image
        for one in units:
            if not one.images:
                bare.append((*one.unit.key, *_stat(one), printable(one.unit.photo.path), one.error))
            for encoded in one.images:
                good.append((image, one.unit, encoded))
                image += 1
        with one_line(self.path):
            if bare:
                rows = [list(column) for column in zip(*bare, strict=True)]
                self.table(WITHOUT).add(pa.table(rows, schema=_schema(without_columns())))
            if good:
                self.table(SEGMENTS).add(_segment_rows(good))
        return image

    def forget(self, keys: Sequence[Key]) -> None:
        """Delete the rows of units."""
        wanted = set(keys)
        images: list[int] = []
        for batch in self.scan(SEGMENTS, [*_KEY, "image"], "segment = 0"):
            columns = batch.to_pydict()
            images += [
                image for image, *key in zip(columns["image"], *(columns[name] for name in _KEY)) if Key(*key) in wanted
            ]
        with one_line(self.path):
            for start in range(0, len(images), _AT_ONCE):
                some = ", ".join(map(str, images[start : start + _AT_ONCE]))
                self.table(SEGMENTS).delete(f"image IN ({some})")
            for key in keys:
                where = f"file = X'{key.file.hex()}' AND \"offset\" = {key.offset} AND stretch = {key.stretch}"
                if self.table(WITHOUT).count_rows(where):
                    self.table(WITHOUT).delete(where)

    def bad(self) -> list[tuple[str, str]]:
        """(path, reason) of the files that could not be encoded."""
        found = {}
        for batch in self.scan(WITHOUT, ["path", "error"], "error IS NOT NULL"):
            found.update(zip(*batch.to_pydict().values(), strict=True))
        return sorted(found.items())

    def count(self) -> int:
        """How many images there are."""
        with one_line(self.path):
            return self.table(SEGMENTS).count_rows("segment = 0")

    def version(self) -> int:
        """The version of the table of segments, which changes with every write."""
        with one_line(self.path):
            table = self.table(SEGMENTS)
            table.checkout_latest()
            return table.version

    def images(self, numbers: Sequence[int], names: Sequence[str]):
        """An Arrow table of images by their numbers, with _rowid, rows in any order."""
        where = f"image IN ({', '.join(map(str, numbers))})"
        with one_line(self.path):
            return self.table(SEGMENTS).search().where(where).select(list(names)).with_row_id(True).to_arrow()

    def tidy(self) -> None:
        """Join the small files of many commits, and remove the files of earlier versions."""
        with one_line(self.path), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # readers look for the newest version before they read
            for name in (SEGMENTS, WITHOUT, ABOUT):
                self.table(name).optimize(cleanup_older_than=timedelta(0))


def columns(dim: int) -> list[tuple]:
    """(name, Arrow type) of `segments`; dim is the length of an embedding.

    image       the image's number, the same in all its rows; segment: 0 ... K - 1.
    vector      the segment's embedding. area in px and box (x, y, width, height) in px: of its mask along the edges.
    map         compressed soft map of (rows, columns); see zeroseg.search.encoding.pack_map.
    path        name for people; file, offset: the file to open, and the offset in a tar (-1: the file is the photo).
    bytes, mtime_ns, sha256  of the file; stretch: of a video; height, width: of the image in px.
    taken       time from EXIF or the video's header; position_s: in the video, in seconds. Null if unknown.
    """
    import pyarrow as pa

    plain = {
        "image": pa.int64(), "segment": pa.int16(), "vector": pa.list_(pa.float16(), dim), "area": pa.int64(),
        "box": pa.list_(pa.int32(), 4), "map": pa.binary(),
        "rows": pa.int16(), "columns": pa.int16(), "path": pa.string(), "file": pa.binary(), "offset": pa.int64(),
        "size": pa.int64(), "stretch": pa.int32(), "bytes": pa.int64(), "mtime_ns": pa.int64(),
        "sha256": pa.binary(), "height": pa.int32(), "width": pa.int32(), "taken": pa.timestamp("us"),
        "position_s": pa.float64(),
    }  # fmt: skip
    return list(plain.items())


def without_columns() -> list[tuple]:
    """(name, Arrow type) of `without`; error is null for a stretch that simply has no frame."""
    import pyarrow as pa

    return [
        ("file", pa.binary()),
        ("offset", pa.int64()),
        ("stretch", pa.int32()),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("path", pa.string()),
        ("error", pa.string()),
    ]


def _schema(named: list[tuple]):
    import pyarrow as pa

    return pa.schema(named)


def _stat(one: EncodedUnit) -> tuple[int, int]:
    return one.unit.bytes, one.unit.mtime_ns


def _segment_rows(good: list):
    """An Arrow table of (image number, unit, encoded image)."""
    import pyarrow as pa

    counts = [len(encoded.vectors) for _, _, encoded in good]
    vectors = np.concatenate([encoded.vectors for _, _, encoded in good])
    named = columns(vectors.shape[1])
    boxes = np.concatenate([encoded.boxes for _, _, encoded in good])
    per_image = {
        "image": [image for image, _, _ in good],
        "rows": [encoded.grid[0] for _, _, encoded in good],
        "columns": [encoded.grid[1] for _, _, encoded in good],
        "path": [printable(unit.photo.path) for _, unit, _ in good],
        "file": [unit.key.file for _, unit, _ in good],
        "offset": [unit.key.offset for _, unit, _ in good],
        "size": [unit.photo.size for _, unit, _ in good],
        "stretch": [unit.stretch for _, unit, _ in good],
        "bytes": [unit.bytes for _, unit, _ in good],
        "mtime_ns": [unit.mtime_ns for _, unit, _ in good],
        "sha256": [encoded.sha256 for _, _, encoded in good],
        "height": [encoded.size[0] for _, _, encoded in good],
        "width": [encoded.size[1] for _, _, encoded in good],
        "taken": [encoded.taken for _, _, encoded in good],
        "position_s": [encoded.position_s for _, _, encoded in good],
    }
    values = {
        "segment": [k for count in counts for k in range(count)],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        "area": np.concatenate([encoded.areas for _, _, encoded in good]),
        "box": pa.FixedSizeListArray.from_arrays(pa.array(boxes.astype(np.int32).ravel()), 4),
        "map": [packed for _, _, encoded in good for packed in encoded.maps],
    }
    for name, one_each in per_image.items():
        values[name] = [value for value, count in zip(one_each, counts) for _ in range(count)]
    return pa.table(
        [values[name] if name in ("vector", "box") else pa.array(values[name], kind) for name, kind in named],
        schema=_schema(named),
    )


def load_lancedb():
    """Import and return lancedb. Raises UnavailableError, naming the extra, if it is not installed."""
    try:
        import lancedb
    except ImportError as error:
        raise missing_extra("lancedb", "search", "A collection") from error
    return lancedb


@contextmanager
def one_line(path: str) -> Iterator[None]:
    """Turn what LanceDB raises into one line that names the collection."""
    try:
        yield
    except ZerosegError:
        raise
    except (RuntimeError, ValueError, OSError, KeyError, TypeError, IndexError) as error:
        text = " ".join(str(error).split())
        if "No space left" in text:
            raise ZerosegError(
                f"{path}: the disk is full; finished photos are kept: free some space and run the same command again"
            ) from error
        raise ZerosegError(
            f"{path}: cannot be read or written ({text.split(', /')[0][:300]}); a file may be damaged or cut off"
        ) from error


def _names(db) -> set[str]:
    return set(db.list_tables().tables if hasattr(db, "list_tables") else db.table_names())


def _lock(file) -> bool:
    """Lock a file without waiting; False if another process has the lock."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
