"""Turn masks into polygons with holes, for formats that hold no pixels.

contourpy finds the outlines at 0.6 of the way from the background's pixel centres to the foreground's. So every corner
lies inside a pixel of the mask, and every pixel centre is on the correct side. Two kinds of program get the mask back
exactly: those that test which pixel centres are inside (pycocotools), and those that truncate corners to whole pixels
and fill the polygon with its border (OpenCV). Pixels that touch only at a corner are separate parts.

shapely then removes corners (Douglas and Peucker 1973).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from zeroseg.errors import missing_extra
from zeroseg.masks import bounding_box

TOLERANCE_PX = 1.0
LEAST_IOU = 0.995  # of the simplified and the exact outline; below this the tolerance is halved
_LEVEL = 0.6
_HALVINGS = 4
_SMALLEST = 4  # corners of one pixel's outline
_DECIMALS = 2  # corners lie at tenths of a pixel; after rounding, those of one row have the same y


@dataclass(frozen=True)
class Part:
    """One connected part of a mask.

    rings    the outline, then one ring per hole: (n, 2) float64 of (x, y) in pixels, where 0 is the image's left or
             top border. The first corner is not repeated at the end.
    bridges  (ring, corner) -> the holes that are joined there, each as (the hole's ring, the hole's corner).
    """

    rings: list[np.ndarray]
    bridges: dict[tuple[int, int], list[tuple[int, int]]] = field(default_factory=dict)

    def one_ring(self) -> np.ndarray:
        """(n, 2) float64: outline and holes as one ring, for formats without holes.

        A line along a row of pixels joins each hole to the ring on its left. The ring follows it to the hole and back.
        The line lies inside the mask, so it encloses nothing and covers no other pixel.
        """
        order, walks = [], [self._walk(0, 0)]
        while walks:  # a stack, not recursion: many holes may form one chain
            step = next(walks[-1], None)
            if step is None:
                walks.pop()
            elif isinstance(step, tuple):
                walks.append(self._walk(*step))
            else:
                order.append(step)
        return np.array(order)

    def _walk(self, ring: int, start: int) -> Iterator[np.ndarray | tuple[int, int]]:
        """Yield the ring's corners from start, and each joined hole at its corner. A hole's walk ends at its start."""
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

    tolerance_px  how far a removed corner may lie from the line that replaces it. A smaller value is used if the
                  outline would cross itself or have an IoU below LEAST_IOU. 0 removes only corners on a straight line.
    Raises UnavailableError if contourpy or shapely is not installed.
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
    """Raise UnavailableError, naming the extra, if contourpy or shapely is not installed."""
    try:
        import contourpy  # noqa: F401
        import shapely  # noqa: F401
    except ImportError as error:
        raise missing_extra(error.name, "datasets", "A dataset of polygons") from error


def _bridges(rings: list[np.ndarray]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Join the leftmost corner of each hole to the next corner on its left in the same row."""
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
    """The part with fewer corners, and the area in px between old and new outline. Corners with a bridge stay."""
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
    """The kept corners (n, 2), the new index of each corner in `fixed`, and the area in px between old and new ring."""
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
    """An upper estimate of the area in px between a line and its simplification, which keeps the line's two ends."""
    kept = np.flatnonzero(np.isin(line.view(complex)[:, 0], fewer.view(complex)[:, 0]))
    chord = np.searchsorted(kept, np.arange(len(line) - 1), "right") - 1  # of each step of the line
    start = line[kept[chord]]
    along = line[kept[chord + 1]] - start
    along /= np.hypot(*along.T)[:, None]
    (x0, y0), (x1, y1) = (line[:-1] - start).T, (line[1:] - start).T
    ahead = np.abs((x1 - x0) * along[:, 0] + (y1 - y0) * along[:, 1])
    aside = np.abs(along[:, 0] * y0 - along[:, 1] * x0) + np.abs(along[:, 0] * y1 - along[:, 1] * x1)
    return float((ahead * aside).sum() / 2)
