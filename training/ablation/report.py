"""The report of the ablations: a table, a figure and one JSON document, with a verdict on the paper's order."""

import statistics
from pathlib import Path

from zeroseg.files import whole_file
from zeroseg.training.ablation.tables import TABLES, judge

MEASURES = {"miou": "mIoU", "miou_best": "best", "oracle": "oracle"}


def collect(tables: list[str], seeds: int, results: dict) -> dict:
    """JSON-able: per table its rows (published value, values of every seed, mean, standard deviation, range) and one
    verdict per measure; and the untrained student's values.

    results  {(slug or None for untrained, seed): result of zeroseg.training.ablation.runs.run_variant}.
    """

    def summary(slug) -> dict:
        found = [results[slug, seed] for seed in range(seeds)]
        row = {name: spread([one[name] for one in found]) for name in MEASURES}
        steps = [one["step_ms"] for one in found if "step_ms" in one]
        return row | ({"step_ms": spread(steps)} if steps else {})

    document = {"seeds": seeds, "untrained": summary(None), "tables": {}}
    for key in tables:
        table = TABLES[key]
        rows = [
            {"label": label, "variant": variant.slug, "published": published} | summary(variant.slug)
            for label, variant, published in table.rows
        ]
        verdicts = {}
        for name in MEASURES:
            verdict = judge([row["published"] for row in rows], [row[name]["values"] for row in rows])
            verdicts[name] = {
                "holds": verdict.holds,
                "sentence": verdict.sentence(),
                "pairs": verdict.pairs,
                "agreeing": verdict.agreeing,
                "clear": verdict.clear,
                "clear_agreeing": verdict.clear_agreeing,
                "order": [rows[row]["label"] for row in verdict.order],
                "published_order": [rows[row]["label"] for row in verdict.published],
            }
        document["tables"][key] = {"title": table.title, "rows": rows, "verdicts": verdicts}
    return document


def spread(values: list[float]) -> dict:
    """values, their mean, sample standard deviation (None for one value), lowest and highest."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"values": values, "mean": statistics.mean(values), "sd": deviation, "low": min(values), "high": max(values)}


def text(document: dict) -> str:
    """The tables for a terminal; percent, mean and standard deviation over the seeds."""
    lines = [f"untrained     {_cells(document['untrained'])}"]
    for key, table in document["tables"].items():
        heads = "".join(f"{title:>16}" for title in MEASURES.values())
        lines += ["", f"{key} {table['title']}", f"{'':<14}{'published':>10}{heads}{'step ms':>12}"]
        lines += [
            f"{row['label']:<14}{row['published']:>10.1f}{_cells(row)}{_mean_sd(row['step_ms']):>12}"
            for row in table["rows"]
        ]
        lines += [
            f"{MEASURES[name]}: {verdict['sentence']}; lowest to highest: {' < '.join(verdict['order'])}"
            for name, verdict in table["verdicts"].items()
        ]
    return "\n".join(lines)


def _cells(row: dict) -> str:
    return "".join(f"{_mean_sd(row[name]):>16}" for name in MEASURES)


def _mean_sd(value: dict) -> str:
    return f"{value['mean']:.1f}" + (f" ± {value['sd']:.1f}" if value["sd"] is not None else "")


def draw(document: dict, path: Path) -> None:
    """One panel per table as PNG: rows by rising published value: values rise to the right if the order holds."""

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tables = document["tables"]
    widths = [len(table["rows"]) + 1 for table in tables.values()]
    figure = Figure(figsize=(2 + 0.62 * sum(widths), 3.9), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, (key, table) in zip(panels, tables.items(), strict=True):
        rows = sorted(table["rows"], key=lambda row: row["published"])
        for name, colour, shift in (("miou", "C0", 0.0), ("miou_best", "C1", 0.14), ("oracle", "C2", 0.0)):
            means = [row[name]["mean"] for row in rows]
            places = [x + shift for x in range(len(rows))]
            axes.plot(places, means, "_", color=colour, ms=13, mew=2, label=MEASURES[name])
            for x, row in zip(places, rows, strict=True):
                axes.plot([x] * len(row[name]["values"]), row[name]["values"], ".", color=colour, ms=5, alpha=0.6)
            axes.axhline(document["untrained"][name]["mean"], color=colour, lw=0.8, ls=":")
        axes.set_xticks(
            range(len(rows)),
            [f"{row['label']}\n({row['published']})" for row in rows],
            fontsize=7,
            rotation=40,
            ha="right",
            rotation_mode="anchor",
        )
        axes.set_title(f"{key} {table['title']}", fontsize=10)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("mIoU, %: dots seeds, bars means,\ndotted lines untrained")
    panels[0].legend(fontsize=8)
    figure.supxlabel("left to right: the paper's order (its mIoU)", fontsize=9)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png")
