"""A picture of what bench/search.py speed measured."""

from pathlib import Path


def draw(rows: list[dict], path: Path) -> None:
    make_figure(rows).savefig(path, dpi=120)


def make_figure(rows: list[dict]):
    """Time of a search and memory by the number of images; both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    times, memory = figure.subplots(1, 2)
    counts = [row["images"] for row in rows]
    [line] = times.plot(counts, [row["p50_ms"] for row in rows], marker="o", label="median")
    times.plot(counts, [row["p95_ms"] for row in rows], "--", color=line.get_color(), label="p95")
    times.legend()
    memory.plot(counts, [row["memory_mib"] for row in rows], marker="o")
    for axes, name in ((times, "ms a search"), (memory, "memory of the process, MiB")):
        axes.set(xscale="log", yscale="log", xlabel="images", ylabel=name)
        axes.grid(alpha=0.3)
    return figure
