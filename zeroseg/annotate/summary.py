"""Summary of a labelled collection: counts and areas per label, the bad photos, and a contact sheet."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zeroseg import drawing
from zeroseg.annotate.job import part_file, read_part
from zeroseg.collection.plan import Plan
from zeroseg.errors import ZerosegError
from zeroseg.files import whole_file
from zeroseg.masks import decode_rle
from zeroseg.photos.decode import load_image
from zeroseg.photos.listing import printable

SHEET_PHOTOS = 100


@dataclass
class LabelCount:
    """For one label: photos with it, its pixels in all of them, the sum of its area shares, the sum of its scores."""

    photos: int = 0
    pixels: int = 0
    shares: float = 0.0
    scores: float = 0.0


@dataclass
class Summary:
    """photos labelled or tried, photos without a label, bad photos, and the labels by name."""

    photos: int = 0
    empty: int = 0
    bad: int = 0
    labels: dict[str, LabelCount] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """The table to print, most frequent label first."""
        good = max(1, self.photos - self.bad)
        width = max([5, *map(len, self.labels)])
        yield f"{'label':<{width}}  {'photos':>9}  {'of all':>7}  {'area':>7}  {'pixels':>14}  {'score':>6}"
        for name, count in sorted(self.labels.items(), key=lambda item: (-item[1].photos, item[0])):
            yield (
                f"{name:<{width}}  {count.photos:>9,}  {count.photos / good:>7.1%}  "
                f"{count.shares / count.photos:>7.1%}  {count.pixels:>14,}  {count.scores / count.photos:>6.3f}"
            )
        yield f"{self.photos:,} photos, {self.empty:,} without any label, {self.bad:,} bad"


def summarise(folder: Path, bad_list: bool = True) -> Summary:
    """Read every table, one at a time; write bad.txt with the bad photos and the reasons."""
    summary, plan = Summary(), Plan(folder)
    with whole_file(folder / "bad.txt") as partial, open(partial, "w", encoding="utf-8") as bad:
        for number in range(plan.parts):
            if not part_file(folder, number).is_file():
                continue
            table = read_part(folder, number, ["path", "height", "width", "label", "score", "area", "error"])
            summary.photos += plan.size(number)
            for name, height, width, label, score, area, error in zip(*table.values(), strict=True):
                if error is not None:
                    summary.bad += 1
                    bad.write(f"{name}\t{' '.join(error.split())}\n")
                elif label is None:
                    summary.empty += 1
                else:
                    count = summary.labels.setdefault(label, LabelCount())
                    count.photos += 1
                    count.pixels += area
                    count.shares += area / (height * width)
                    count.scores += score
    if not summary.bad:
        (folder / "bad.txt").unlink()
    return summary


def contact_sheet(folder: Path, names: list[str], photos: int = SHEET_PHOTOS):
    """Small overlays of photos with labels, spread evenly over the collection: a PIL image, None if there are none.

    names  the job's labels in order, which determines their colours.
    """
    plan = Plan(folder)
    done = [number for number in range(plan.parts) if part_file(folder, number).is_file()]
    parts = [done[i * len(done) // min(len(done), photos)] for i in range(min(len(done), photos))]
    each = -(-photos // max(1, len(parts)))
    colors, index = drawing.label_colors(names), {name: i for i, name in enumerate(names)}
    cells = []
    for number in parts:
        rows = read_part(folder, number, ["path", "label", "rle", "score"])
        found: dict[str, list] = {}
        for path, label, rle, score in zip(*rows.values(), strict=True):
            if label is not None:
                found.setdefault(path, []).append((label, rle, score))
        members = [photo for photo in plan.part(number) if printable(photo.path) in found]
        for i in np.unique(np.linspace(0, len(members) - 1, min(each, len(members))).astype(int)):
            try:
                image = load_image(members[i].read())
                cells.append(_overlay(image, found[printable(members[i].path)], index, colors))
            except (ZerosegError, OSError, ValueError):
                continue  # the photo has disappeared since it was labelled
            if len(cells) == photos:
                break
    return drawing.contact_sheet(cells) if cells else None


def _overlay(image: np.ndarray, rows: list, index: dict[str, int], colors: np.ndarray):
    label_map = np.full(image.shape[:2], -1, np.int16)
    for label, rle, _ in rows:
        label_map[decode_rle({"size": image.shape[:2], "counts": rle}) > 0] = index[label]
    entries = [(colors[index[label]], f"{label}  {score:.2f}") for label, _, score in rows]
    cell = drawing.with_legend(drawing.blend(image, label_map, colors, 0.5), entries)
    cell.thumbnail((drawing.CELL_PX, drawing.CELL_PX))
    return cell
