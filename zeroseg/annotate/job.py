"""The labelling job, kept in the output folder, and its execution: one table per part.

    OUT/job.json, labels.npz, plan.*   the job; every process, here or on another machine, reads it from there
    OUT/parts/part-000000.parquet      the photos of one part, complete or missing: it decides which photos are done
    OUT/masks/PATH.png                 label maps, if asked for: 0 background, i + 1 label i
    OUT/bad.txt                        the photos that could not be labelled, and why

A part's table has one row for each label found on a photo. A photo without any label has one row with a null label:

    path            str, the photo
    height, width   int32, pixels after EXIF orientation; null for a bad photo
    label           str, null if nothing was found or the photo is bad
    score           float32, of the label's best segment
    area            int64, pixels
    rle             str, the mask as COCO's compressed RLE ("counts"; "size" is [height, width])
    error           str, why a bad photo could not be labelled, else null
"""

import errno
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from zeroseg.collection.listing import Photo, SourceGone, read_listed
from zeroseg.collection.plan import Plan
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.files import PNG_LEVEL, fitting, make_folder, safe_name, whole_file, write_text
from zeroseg.masks import encode_label_map
from zeroseg.photos.decode import load_image
from zeroseg.photos.listing import printable

FORMAT = 1


@dataclass(frozen=True)
class Job:
    """The settings of a job. model: file or bundled name, None for the default; model_digest: SHA-256 of it."""

    model: str | None
    model_digest: str
    backend: str
    threads: int
    labels_digest: str
    threshold: float | None
    masks: bool

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """The job of an output folder; ZerosegError if there is none."""
        try:
            document = json.loads((folder / "job.json").read_text(encoding="utf-8"))
            if document.pop("format") != FORMAT:
                raise ValueError("another version's")
            return cls(**document)
        except FileNotFoundError:
            raise ZerosegError(
                f"{folder}: has no labelling job (job.json); with several machines, all of them must see the folder"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ZerosegError(f"{folder / 'job.json'}: cannot be read ({error})") from error

    def begin(self, folder: Path) -> None:
        """Write the job to its folder. ZerosegError if another job has labelled photos there."""
        if (folder / "job.json").is_file() and any((folder / "parts").iterdir()):
            earlier, now = asdict(Job.read(folder)), asdict(self)
            for name in ("labels_digest", "model_digest", "threshold", "masks"):
                if earlier[name] != now[name]:
                    raise ZerosegError(f"{folder}: was begun with {_SAID[name]}; choose another -o, or delete it")
        write_text(folder / "job.json", json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")


_SAID = {
    "labels_digest": "other labels",
    "model_digest": "another model",
    "threshold": "another threshold",
    "masks": "another choice of --masks",
}


# system errors if a mask cannot have the photo's name: it is too long, or the name of both a file and a folder
_NAME_FAULTS = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def part_file(folder: Path, number: int) -> Path:
    """The table of a part."""
    return folder / "parts" / f"part-{number:06}.parquet"


def done_parts(folder: Path, plan: Plan) -> bytearray:
    """One byte per part, 1 if its table is complete. A damaged or truncated table is deleted."""
    import pyarrow.parquet

    done = bytearray(plan.parts)
    with os.scandir(folder / "parts") as entries:
        for entry in entries:
            number = entry.name.removeprefix("part-").removesuffix(".parquet")
            if entry.name.endswith(".parquet") and number.isdecimal() and int(number) < plan.parts:
                try:
                    done[int(number)] = pyarrow.parquet.read_metadata(entry.path).num_rows >= plan.size(int(number))
                except (OSError, ValueError):
                    pass
                if not done[int(number)]:
                    os.unlink(entry.path)
    return done


def read_part(folder: Path, number: int, names: list[str]) -> dict[str, list]:
    """Columns of a part's table; ZerosegError, naming the file, if it is damaged."""
    import pyarrow.parquet

    path = part_file(folder, number)
    try:
        return pyarrow.parquet.read_table(path, columns=names, page_checksum_verification=True).to_pydict()
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ZerosegError(f"{path}: is damaged ({reason}); delete it and run the same command again") from error


class Labeller:
    """One process's model, loaded once, and the parts it labels."""

    def __init__(self, folder: str | Path):
        """folder: the output folder of an existing job. Raises ZerosegError if the model cannot run."""
        from zeroseg.segment.segmenter import Segmenter

        require_pyarrow()
        self.folder = Path(folder)
        self.job, self.plan = Job.read(self.folder), Plan(self.folder)
        self.segmenter = Segmenter.load(self.job.model, self.job.backend, self.job.threads)
        self.segmenter.set_labels(self.folder / "labels.npz")

    def part(
        self, number: int, skip: Mapping[int, str] | None = None, on_photo: Callable[[], None] = lambda: None
    ) -> int:
        """Label a part and write its table; return how many of its photos are bad.

        skip      index in the part -> why that photo is skipped.
        on_photo  called after each photo.
        """
        table, bad, skip = {name: [] for name, _ in columns()}, 0, skip or {}
        for place, photo in enumerate(self.plan.part(number)):
            rows, error = self._photo(photo) if place not in skip else ([], skip[place])
            bad += error is not None
            for row in rows or [(None,) * 6]:
                for name, value in zip(table, (printable(photo.path), *row, error), strict=True):
                    table[name].append(value)
            on_photo()
        self._write(number, table)
        return bad

    def _photo(self, photo: Photo) -> tuple[list[tuple], str | None]:
        """The rows of a photo without path and error; and the error."""
        try:
            image = load_image(read_listed(photo))
            result = self.segmenter.segment(image, self.job.threshold)
        except SourceGone:  # not the photo's fault
            raise
        except (ZerosegError, ValueError, OSError, MemoryError) as error:
            return [], printable(str(error).removeprefix("image: ") or "out of memory")
        if self.job.masks and (fault := self._write_mask(photo, result)):
            return [], fault
        height, width = result.label_map.shape
        masks = encode_label_map(result.label_map) if result.found else {}
        rows = [
            (height, width, region.label, region.score, region.area_px, masks[region.index]["counts"])
            for region in result.found
        ]
        return rows or [(height, width, None, None, None, None)], None

    def _write_mask(self, photo: Photo, result) -> str | None:
        """Write the photo's mask; return None, or the reason if the mask cannot have the photo's name."""
        path = mask_file(self.folder, photo)
        try:
            make_folder(path.parent, "masks")
            with whole_file(path, durable=True) as partial:
                result.label_picture().save(partial, format="PNG", compress_level=PNG_LEVEL)
        except ZerosegError as error:
            if getattr(error.__cause__, "errno", None) in _NAME_FAULTS:
                return printable(str(error))
            raise
        return None

    def _write(self, number: int, table: dict[str, list]) -> None:
        import pyarrow
        import pyarrow.parquet

        rows = pyarrow.table(table, schema=pyarrow.schema([(name, kind) for name, kind in columns()]))
        with whole_file(part_file(self.folder, number), durable=True) as partial:
            pyarrow.parquet.write_table(rows, partial, compression="zstd", write_page_checksum=True)


def columns() -> list[tuple]:
    """(name, Arrow type) of a part's table."""
    import pyarrow as pa

    return [
        ("path", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("label", pa.string()),
        ("score", pa.float32()),
        ("area", pa.int64()),
        ("rle", pa.string()),
        ("error", pa.string()),
    ]


def mask_file(folder: Path, photo: Photo) -> Path:
    """The path of a photo's label map: under masks/, with the parts of the photo's path that stay inside it.

    Different paths give different names: "%" and characters that a file system may refuse become "%" and two hex
    digits.
    """
    steps = [step for step in photo.path.replace(os.sep, "/").split("/") if step not in ("", ".", "..")]
    return folder / "masks" / ("/".join(fitting(safe_name(step), len(".png")) for step in steps) + ".png")


def require_pyarrow() -> None:
    """UnavailableError, naming the extra, if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise missing_extra("pyarrow", "annotate", "Labelling a collection") from error
