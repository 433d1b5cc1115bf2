"""The ZeroSeg paper's ablations (arXiv 2306.00450, Tables 3, 4, 5): variants, published values, and verdicts.

A variant is named by its difference from the full recipe, so that a variant in several tables is trained only once. The
published values are mIoU on VOC 2012 val of single runs, without seeds or spread.
"""

from dataclasses import dataclass
from itertools import combinations
from statistics import mean

FULL_GRIDS, FULL_MASK = (1, 2, 3, 4), 0.6


@dataclass(frozen=True)
class Variant:
    """losses of zeroseg.training.objective besides reconstruction; grids of views they see; mask_ratio in [0, 1)."""

    losses: tuple[str, ...]
    grids: tuple[int, ...] = FULL_GRIDS
    mask_ratio: float = FULL_MASK

    @property
    def slug(self) -> str:
        """A folder name, equal for equal variants."""
        losses = "+".join(name.replace("_", "-") for name in self.losses)
        return f"{losses}_{''.join(map(str, self.grids))}_mask{round(100 * self.mask_ratio):02}"


@dataclass(frozen=True)
class Table:
    """rows: (label, variant, published mIoU in percent), in the paper's order of rows."""

    key: str
    title: str
    rows: tuple[tuple[str, Variant, float], ...]


BOTH = ("multi_scale", "segment_matching")
BASE, FULL = Variant(("global_view",), (1,)), Variant(BOTH)
TABLES = {
    "T4": Table(
        "T4",
        "losses",
        (
            ("base", BASE, 21.1),
            ("+ multi-scale", Variant(("multi_scale",)), 28.5),
            ("+ matching", Variant(("segment_matching",)), 38.6),
            ("+ both", FULL, 40.8),
        ),
    ),
    "T3": Table(
        "T3",
        "scales",
        (
            ("1x1", BASE, 21.1),
            ("1x1, 2x2", Variant(BOTH, (1, 2)), 23.7),
            ("1x1, 3x3", Variant(BOTH, (1, 3)), 40.2),
            ("1x1, 4x4", Variant(BOTH, (1, 4)), 32.4),
            ("all four", FULL, 40.8),
        ),
    ),
    "T5": Table(
        "T5",
        "mask ratio",
        tuple(
            (f"{percent} %", Variant(BOTH, mask_ratio=percent / 100), published)
            for percent, published in (
                (0, 35.6),
                (20, 37.6),
                (30, 38.7),
                (40, 40.4),
                (50, 39.8),
                (60, 40.8),
                (70, 33.3),
                (80, 32.8),
            )
        ),
    ),
}


def variants(keys) -> list[Variant]:
    """The different variants of some tables, each once, in the order of their first row."""
    return list(dict.fromkeys(variant for key in keys for _, variant, _ in TABLES[key].rows))


@dataclass(frozen=True)
class Verdict:
    """A published order against measured values.

    order      row numbers by rising measured mean; published the same by rising published value.
    pairs      how many pairs of rows; agreeing, how many of them lie the same way round in the means.
    clear      pairs whose measured ranges over the seeds do not touch; clear_agreeing, those of them that agree.
    """

    published: tuple[int, ...]
    order: tuple[int, ...]
    pairs: int
    agreeing: int
    clear: int
    clear_agreeing: int

    @property
    def holds(self) -> bool:
        """Whether the means are in the published order, regardless of their spread."""
        return self.agreeing == self.pairs

    def sentence(self) -> str:
        """The verdict in words."""
        if not self.holds:
            first = "the paper's order does not hold"
        elif self.clear == self.pairs:
            return f"the paper's order holds, all {self.pairs} pairs clear of the spread"
        else:
            first = "the means are in the paper's order"
        return (
            f"{first}: {self.agreeing} of {self.pairs} pairs agree; {self.clear} are clear of the spread, of which "
            f"{self.clear_agreeing} agree"
        )


def judge(published: list[float], measured: list[list[float]]) -> Verdict:
    """Compare row by row: published values (rows), measured values of every seed (rows x seeds, any count >= 1).

    Raises ValueError for different numbers of rows or a row without values.
    """
    if len(published) != len(measured) or not all(measured):
        raise ValueError(f"measured: expected values for each of {len(published)} rows")
    means, rows = [mean(values) for values in measured], range(len(published))
    pairs = agreeing = clear = clear_agreeing = 0
    for a, b in combinations(rows, 2):
        low, high = (a, b) if published[a] < published[b] else (b, a)
        apart = max(measured[low]) < min(measured[high]) or max(measured[high]) < min(measured[low])
        agrees = means[low] < means[high]
        pairs, agreeing, clear = pairs + 1, agreeing + agrees, clear + apart
        clear_agreeing += agrees and apart
    return Verdict(
        tuple(sorted(rows, key=lambda row: published[row])),
        tuple(sorted(rows, key=lambda row: means[row])),
        pairs,
        agreeing,
        clear,
        clear_agreeing,
    )
