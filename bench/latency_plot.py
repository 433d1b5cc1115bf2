"""A picture of what bench/latency.py measured."""

from pathlib import Path

import numpy as np

from zeroseg.bench.stages import STAGES
from zeroseg.errors import ZerosegError, missing_extra


def check_plot(path: Path) -> None:
    """ZerosegError now for what draw() could not write later."""
    try:
        from matplotlib.figure import Figure  # noqa: F401
    except ImportError as error:
        raise missing_extra("matplotlib", "train", "--plot") from error
    if path.suffix != ".png" or not path.parent.is_dir():
        raise ZerosegError(f"--plot: expected a name that ends in .png in a folder that is there, got {path}")


def draw(report: dict, path: Path) -> None:
    make_figure(report).savefig(path, dpi=120)


def make_figure(report: dict):
    """Stacked bars, a stage a colour, a row per size and back end; below them, if timed, a line per back end: a frame's
    time by the number of labels, over that with the first.
    """
    from matplotlib.figure import Figure

    rows, labels = report["frames"], report.get("labels", [])
    heights = [1.2 + 0.4 * len(rows)] + [3] * bool(labels)
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    [bars, *below] = figure.subplots(len(heights), height_ratios=heights, squeeze=False)[:, 0]
    names, left = [f"{row['size']} {row['backend']}" for row in rows], np.zeros(len(rows))
    for stage in STAGES:
        widths = np.array([row[stage] for row in rows])
        bars.barh(names, widths, left=left, label=stage)
        left += widths
    bars.invert_yaxis()
    bars.set_xlabel("ms a frame (medians)")
    bars.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(STAGES), frameon=False)
    for axes in below:
        for backend in dict.fromkeys(row["backend"] for row in labels):
            own = [row for row in labels if row["backend"] == backend]
            axes.plot([row["labels"] for row in own], [row["ratio_to_first"] for row in own], marker="o", label=backend)
        first, counts = labels[0]["labels"], sorted({row["labels"] for row in labels})
        highest = max(row["ratio_to_first"] for row in labels)
        axes.set(xscale="log", ylim=(0, 1.1 * highest), xlabel="labels", ylabel=f"times the frame with {first}")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        axes.legend()
    return figure
