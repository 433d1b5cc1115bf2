"""Write the hits of a search: a contact sheet, JSON Lines, Parquet, and lines of text."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from zeroseg import drawing
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.files import save_png, whole_file
from zeroseg.masks import encode_rle
from zeroseg.search.hit import Hit
from zeroseg.segment.segmentation import Segmentation

SUFFIXES = {".png": "contact sheet", ".jsonl": "JSON Lines", ".parquet": "Parquet"}


def line(rank: int, hit: Hit) -> str:
    """One line of text: rank, score, share of the image, box, path, time, and the scores of several words."""
    x, y, width, height = hit.box
    words = "  ".join(
        f"{mark or ''}{word} {hit.scores[word]:.3f}"
        for word, mark in zip(hit.pack.names, hit.pack.marks)
        if len(hit.scores) > 1
    )
    return (
        f"{rank:>3}  {hit.score:.3f}  {hit.share:6.1%}  {f'{x},{y} {width}x{height}':<20} {hit.path}"
        + (f"  {hit.time}" if hit.time else "")
        + (f"  ({words})" if words else "")
    )


def document(hit: Hit, result: Segmentation) -> dict:
    """A hit as a dict for JSON; segmentation is the mask of all wanted words as COCO RLE."""
    return {
        "path": hit.path,
        "file": hit.place.real_file,
        "position_s": hit.position_s,
        "taken": None if hit.taken is None else hit.taken.isoformat(timespec="seconds"),
        "score": round(hit.score, 6),
        "scores": {word: round(score, 6) for word, score in hit.scores.items()},
        "share": round(hit.share, 6),
        "bbox": list(hit.box),
        "size": list(hit.size),
        "segmentation": encode_rle(result.label_map >= 0),
    }


def save(path: Path, hits: Sequence[Hit], say: Callable[[str], None] = lambda line: None) -> None:
    """Write hits to a file; its suffix decides: .png (contact sheet), .jsonl or .parquet.

    say: called with a line about each photo that can no longer be read. Its mask is then coarser, without the photo's
    edges, and the contact sheet omits it. Raises ZerosegError for another suffix, or if the file cannot be written.
    """
    check_suffix(path)
    if path.suffix == ".png":
        cells = [_cell(hit, result) for hit, result in _segmented(hits, say) if result.image is not None]
        if not cells:
            raise ZerosegError(f"{path}: none of the photos can be read, so there is nothing to draw")
        save_png(path, drawing.contact_sheet(cells))
        return
    documents = [document(hit, result) for hit, result in _segmented(hits, say)]
    if path.suffix == ".jsonl":
        with whole_file(path) as partial:
            text = "".join(json.dumps(one) + "\n" for one in documents)
            partial.write_text(text, encoding="utf-8", newline="\n")
    else:
        _write_parquet(path, documents)


def check_suffix(path: Path) -> None:
    """Raise ZerosegError unless save() knows the suffix."""
    if path.suffix not in SUFFIXES:
        kinds = ", ".join(f"{suffix} ({kind})" for suffix, kind in SUFFIXES.items())
        raise ZerosegError(f"--save {path}: expected a file that ends in {kinds}")


def _segmented(hits: Iterable[Hit], say: Callable[[str], None]):
    for hit in hits:
        try:
            yield hit, hit.segmentation()
        except ZerosegError as error:
            say(str(error))
            yield hit, hit.segmentation(edges=False)


def _cell(hit: Hit, result: Segmentation):
    """An overlay with a legend. The photo is reduced first, because it has a hundred times the pixels of a cell."""
    step = max(1, max(hit.size) // (2 * drawing.CELL_PX))
    image, label_map = (np.ascontiguousarray(one[::step, ::step]) for one in (result.image, result.label_map))
    entries = [
        (result.colors[region.index], f"{result.marks[region.index]}{region.label}  {hit.scores[region.label]:.2f}")
        for region in result.found
    ]
    picture = drawing.blend(image, label_map, result.colors, 0.5)
    return drawing.with_legend(picture, entries or [((24, 24, 24), "")])


def _write_parquet(path: Path, documents: list[dict]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "search", "Parquet") from error
    rows = [
        {
            **{name: one[name] for name in ("path", "file", "position_s", "taken", "score", "share")},
            "scores": json.dumps(one["scores"]),
            **dict(zip("xywh", one["bbox"])),
            "height": one["size"][0],
            "width": one["size"][1],
            "rle": one["segmentation"]["counts"],
        }
        for one in documents
    ]
    kinds = {name: pa.int64() for name in (*"xywh", "height", "width")}
    kinds |= {name: pa.string() for name in ("path", "file", "taken", "scores", "rle")}
    kinds |= {name: pa.float64() for name in ("position_s", "score", "share")}
    order = "path file position_s taken score scores share x y w h height width rle".split()
    with whole_file(path) as partial:
        pyarrow.parquet.write_table(
            pa.Table.from_pylist(rows, schema=pa.schema([(name, kinds[name]) for name in order])), partial
        )
