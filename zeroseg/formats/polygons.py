"""Masks to polygons with holes, for formats that hold no pixels.

contourpy finds the outlines, at six tenths of the way from the background's pixel centres to the foreground's. So every
corner lies inside a pixel of the mask, and every pixel centre is on its own side: a program that asks which centres are
inside a polygon (pycocotools) gets the mask back exactly, and so does one that cuts corners to whole pixels and fills
what they enclose, border included (OpenCV). Pixels that touch at a corner alone are separate parts.

shapely then leaves corners out (Douglas and Peucker 1973).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from zeroseg.errors import missing_extra
from zeroseg.masks import bounding_box

TOLERANCE_PX = 1.0
LEAST_IOU = 0.995  # of a simplified outline with the exact one; below, the tolerance is halved
_LEVEL = 0.6
_HALVINGS = 4
_SMALLEST = 4  # corners of one pixel's outline
_DECIMALS = 2  # corners lie at tenths of a pixel; rounding them makes those of one row equal


@dataclass(frozen=True)
class Part:
    """One connected part of a mask.

    rings    the outline, then one ring per hole: (n, 2) float64 of (x, y) in pixels, 0 the left or top border of the
             picture; the last corner is not the first again.
    bridges  (ring, corner) -> the holes joined to the outline there, each as (ring, corner of it).
    """

    rings: list[np.ndarray]
    bridges: dict[tuple[int, int], list[tuple[int, int]]] = field(default_factory=dict)

    def one_ring(self) -> np.ndarray:
        """(n, 2) float64: outline and holes as one ring, for formats without holes.

        Each hole hangs on the ring left of it by a line along a row of pixels, there and back. The line lies inside the
        mask: it encloses nothing and covers nothing else.
        """
        order, walks = [], [self._walk(0, 0)]
        while walks:  # no recursion: a row of holes hangs on one another
            step = next(walks[-1], None)
            if step is None:
                walks.pop()
            elif isinstance(step, tuple):
                walks.append(self._walk(*step))
            else:
                order.append(step)
        return np.array(order)

    def _walk(self, ring: int, start: int) -> Iterator[np.ndarray | tuple[int, int]]:
        """The ring's corners from start; where holes hang, the holes to walk around. A hole ends where it began."""
        corners = self.rings[ring]
        for step in range(len(corners)):
            place = (start + step) % len(corners)
            yield corners[place]
            for hole in self.bridges.get((ring, place), ()):
                yield hole
                yield corners[place]
        if ring:
            yield corners[start]


def parts_of(mask: np.ndarray, tolerance_px: float = TOLERANCE_PX) -> list[Part]:
    """The connected parts of mask (H, W), nonzero inside, as polygons; none for an empty mask.

    tolerance_px  how far a corner that is left out may lie from the line that replaces it; less where the outline would
                  cross itself or have an IoU below LEAST_IOU; 0 leaves out only what lies on a line.
    Raises UnavailableError where contourpy or shapely is not installed.
    """
    require_polygons()
    from contourpy import FillType, contour_generator

    x, y, width, height = bounding_box(mask)
    if not width:
        return []
    inside = np.pad(mask[y : y + height, x : x + width] != 0, 1).astype(float)
    found = contour_generator(z=inside, name="serial", fill_type=FillType.OuterOffset).filled(_LEVEL, 2.0)
    parts = []
    for corners, starts in zip(*found, strict=True):
        corners = np.round(corners - 0.5 + (x, y), _DECIMALS)
        rings = [corners[begin : end - 1] for begin, end in zip(starts[:-1], starts[1:], strict=True)]
        parts.append(_simplified(Part(rings, _bridges(rings)), tolerance_px))
    return parts


def require_polygons() -> None:
    """UnavailableError, naming the extra, where contourpy or shapely is not installed."""
    try:
        import contourpy  # noqa: F401
        import shapely  # noqa: F401
    except ImportError as error:
        raise missing_extra(error.name, "datasets", "A dataset of polygons") from error


def _bridges(rings: list[np.ndarray]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """From the leftmost corner of each hole along its row to the next ring on the left."""
    if len(rings) == 1:
        return {}
    owner = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    place = np.concatenate([np.arange(len(ring)) for ring in rings])
    x, y = np.concatenate(rings).T
    by_row = np.lexsort((x, y))
    rank = np.empty(len(x), int)
    rank[by_row] = np.arange(len(x))
    firsts = np.cumsum([0, *(len(ring) for ring in rings)])
    bridges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for hole in range(1, len(rings)):
        corner = int(rings[hole][:, 0].argmin())
        left = by_row[rank[firsts[hole] + corner] - 1]  # there is one: the outline encloses the hole
        bridges.setdefault((int(owner[left]), int(place[left])), []).append((hole, corner))
    return bridges


def _simplified(exact: Part, tolerance_px: float) -> Part:
    from shapely import Polygon

    area_px = Polygon(exact.rings[0], exact.rings[1:]).area
    for tolerance in [tolerance_px / 2**i for i in range(_HALVINGS + 1)] if tolerance_px else []:
        part, lost_px = _with_tolerance(exact, tolerance)
        if lost_px <= (1 - LEAST_IOU) * area_px and Polygon(part.rings[0], part.rings[1:]).is_valid:
            return part
    return _with_tolerance(exact, 0.0)[0]


def _with_tolerance(exact: Part, tolerance_px: float) -> tuple[Part, float]:
    """The part with fewer corners, and the area in px between the two. Corners that a bridge ends in stay."""
    ends: list[set[int]] = [set() for _ in exact.rings]
    for (ring, corner), holes in exact.bridges.items():
        ends[ring].add(corner)
        for hole, its_corner in holes:
            ends[hole].add(its_corner)
    rings, moved, lost_px = [], [], 0.0
    for ring, fixed in zip(exact.rings, ends, strict=True):
        fewer, places, between_px = _fewer_corners(ring, sorted(fixed), tolerance_px)
        rings.append(fewer)
        moved.append(places)
        lost_px += between_px
    bridges = {
        (ring, moved[ring][corner]): [(hole, moved[hole][its_corner]) for hole, its_corner in holes]
        for (ring, corner), holes in exact.bridges.items()
    }
    return Part(rings, bridges), lost_px


def _fewer_corners(ring: np.ndarray, fixed: list[int], tolerance_px: float) -> tuple[np.ndarray, dict[int, int], float]:
    """The ring's corners that are kept, where those of `fixed` are among them, and the area between the two rings."""
    from shapely import LineString

    if len(ring) <= _SMALLEST:
        return ring, {corner: corner for corner in fixed}, 0.0
    stops = set(fixed) or {0}
    if len(stops) == 1:  # a line from a corner to itself has no direction
        stops.add(int(((ring - ring[min(stops)]) ** 2).sum(1).argmax()))
    stops = sorted(stops)
    kept, places, lost_px = [], {}, 0.0
    for stop, following in zip(stops, [*stops[1:], stops[0] + len(ring)], strict=True):
        places[stop] = sum(map(len, kept))
        line = ring[np.arange(stop, following + 1) % len(ring)]
        fewer = np.asarray(LineString(line).simplify(tolerance_px, preserve_topology=False).coords)
        lost_px += _area_between(line, fewer)
        kept.append(fewer[:-1])
    corners = np.concatenate(kept)
    if len(corners) < 3:
        return ring, {corner: corner for corner in fixed}, 0.0
    return corners, {corner: places[corner] for corner in fixed}, lost_px


def _area_between(line: np.ndarray, fewer: np.ndarray) -> float:
    """The area in px between a line and one of a part of its corners, first and last among them; rather too much."""
    kept = np.flatnonzero(np.isin(line.view(complex)[:, 0], fewer.view(complex)[:, 0]))
    chord = np.searchsorted(kept, np.arange(len(line) - 1), "right") - 1  # of each step of the line
    start = line[kept[chord]]
    along = line[kept[chord + 1]] - start
    along /= np.hypot(*along.T)[:, None]
    (x0, y0), (x1, y1) = (line[:-1] - start).T, (line[1:] - start).T
    ahead = np.abs((x1 - x0) * along[:, 0] + (y1 - y0) * along[:, 1])
    aside = np.abs(along[:, 0] * y0 - along[:, 1] * x0) + np.abs(along[:, 0] * y1 - along[:, 1] * x1)
    return float((ahead * aside).sum() / 2)
