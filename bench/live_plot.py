"""A picture of what bench/live.py measured."""

from pathlib import Path

from zeroseg.bench.latency_plot import check_plot

__all__ = ["check_plot", "draw", "make_figure"]
PANELS = (("fps", "displayed a second"), ("p95_ms", "latency, ms:\nmedian and 95 %"), ("mib", "memory, MiB"))


def draw(report: dict, path: Path) -> None:
    make_figure(report).savefig(path, dpi=110)


def make_figure(report: dict):
    """Over the time of a run, a line per source: frames shown a second, latency and memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7.5), layout="constrained")
    for axes, (field, title) in zip(figure.subplots(len(PANELS), 1, sharex=True), PANELS, strict=True):
        for i, row in enumerate(report["rows"]):
            parts = [part for part in row["over_time"] if part[field] is not None]
            minutes = [part["s"] / 60 for part in parts]
            axes.plot(minutes, [part[field] for part in parts], color=f"C{i}", label=row["source"])
            if field == "p95_ms":
                axes.plot(minutes, [part["p50_ms"] for part in parts], color=f"C{i}", linestyle=":")
        axes.set_ylabel(title)
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.grid(alpha=0.3)
    figure.axes[-1].set_xlabel("minutes")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure
