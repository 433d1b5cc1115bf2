"""A picture of what bench/search.py speed measured."""

from pathlib import Path


def draw(rows: list[dict], path: Path) -> None:
    make_figure(rows).savefig(path, dpi=120)


def make_figure(rows: list[dict]):
    """Time of a search and memory by the number of images, a line for each way to search; both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    times, memory = figure.subplots(1, 2)
    for index in dict.fromkeys(row["index"] for row in rows):
        own = [row for row in rows if row["index"] == index]
        counts = [row["images"] for row in own]
        [line] = times.plot(counts, [row["p50_ms"] for row in own], marker="o", label=f"{index}, median")
        times.plot(counts, [row["p95_ms"] for row in own], "--", color=line.get_color(), label=f"{index}, p95")
        memory.plot(counts, [row["memory_mib"] for row in own], marker="o", color=line.get_color(), label=index)
    for axes, name in ((times, "ms a search"), (memory, "memory of the process, MiB")):
        axes.set(xscale="log", yscale="log", xlabel="images", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
