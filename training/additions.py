"""`python training/additions.py`: measure the contribution of each part of the dense recipe by leaving it out.

The recipe itself, and for every part the recipe without it, are trained from the same start on the same photos and then
measured as users run them. The contribution of a part is the recipe's result minus that of the run without the part,
seed by seed. It is significant only if it is larger than the recipe's own spread over seeds. Parts that the recipe does
not have are added instead. Short runs have lower absolute numbers than the bundled model.
"""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.commands.command import Command
from zeroseg.errors import ZerosegError
from zeroseg.training.ablation.options import FILE, absolute, open_all, shared_options
from zeroseg.training.recipes import RECIPES, TrainConfig

FIGURE, RESULT = "additions.png", "additions.json"


@dataclass(frozen=True)
class Addition:
    """A part of the recipe: its name, what the run has instead, and the settings (--set) that leave it out.

    added: the recipe is without it, and the settings bring it in.
    """

    name: str
    instead: str
    changes: tuple[str, ...]
    added: bool = False


RECIPE = Addition("recipe", "the dense recipe as it is", ())
ADDITIONS = (
    # Losses
    Addition("group_variance", "no loss on the segments' positions", ("losses.group_variance=0",)),
    Addition("segment_name", "no loss on each segment's mean target", ("losses.segment_name=0",)),
    Addition("place", "no loss on map times embeddings", ("losses.place=0",)),
    Addition("image_name", "no loss on the image embedding", ("losses.image_name=0",)),
    # Targets
    Addition("diffusion", "the teacher's targets without diffusion", ("diffusion.share=0",)),
    Addition(
        "clothes",
        "no patches labelled person because of clothes",
        ("teacher.conse.worn_gain=0", "model.prototypes=1000"),
    ),
    Addition("strength", "strength of places to the power 1", ("teacher.conse.strength_power=1",)),
    Addition("photo_balance", "photos' strongest places as they are", ("teacher.conse.photo_balance=0",)),
    Addition("three_teachers", "one teacher", ("teacher.spec=timm:tf_efficientnet_lite2",)),
    # Photos
    Addition(
        "crops",
        "whole photos, same colours, no flips",
        ("crops.area=[1,1]", "crops.stretch=1", "crops.jitter=0", "crops.flip=0"),
    ),
    Addition("shapes", "square crops only", ("crops.sizes=[[256,256]]",)),
    Addition("two_crops", "one cached crop per photo", ("stem_views=1",)),
    # Optimisation
    Addition("average", "the last weights instead of their average", ("ema_decay=0",)),
    # Model
    Addition("cosine", "assignment by dot products", ('model.assignment="dot"',)),
    Addition("assign_scale", "cosines start at a scale of 10", ("model.assign_scale=10",)),
    Addition("tokens_apart", "later group tokens start at 0", ("model.later_token_std=0",)),
    Addition("soft", "hard assignment with Gumbel noise", ('model.aggregation="hard"', "model.gumbel=true")),
    Addition("prototypes", "an MLP as projector", ('model.readout="projector"',)),
    # Not in the recipe
    Addition(
        "class_balance", "classes with the same meaning count once", ("teacher.conse.class_balance=1",), added=True
    ),
    Addition("probe", "a probe for persons in the teacher (--probe)", ("teacher.probe={probe}",), added=True),
)
NAMES = [RECIPE.name, *(addition.name for addition in ADDITIONS)]


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@shared_options("runs/additions", limit=2000, seeds=2, epochs=2.0, eval_photos=1000)
@click.option(
    "--only", metavar="NAMES", default=",".join(NAMES), help="Parts to leave out; recipe means the whole recipe."
)
@click.option(
    "--probe", type=FILE, metavar="NPZ", help="Probe from training/person_probe.py; without it, no run has a probe."
)
def main(only, probe, dry_run, **options):
    """Train and measure the dense recipe without each of its parts, with several seeds.

    After an interruption, the same command resumes. Finished runs are kept, --seeds may grow, any other change is
    refused. The report covers all runs in the folder.

    \b
    Example:
      python training/additions.py --photos ~/photos --voc-dev ~/voc-dev --labels ~/labels --teacher-weights ~/teacher
    """
    wanted = [name.strip() for name in only.split(",")]
    if set(wanted) - set(NAMES):
        raise ZerosegError(f"--only: expected some of {','.join(NAMES)}, got {only!r}")
    config = base_config(options)
    inputs, photos, teacher, measure, processes = open_all(config, options)
    from zeroseg.training.ablation.grid import depends_on  # needs torch, which open_all has found

    settings, folder = depends_on(config, photos, teacher, measure), Path(inputs.run)
    if not probe:
        wanted = [name for name in wanted if name != "probe"]
    jobs = [
        (addition, seed)
        for seed in range(options["seeds"])
        for addition in (RECIPE, *parts(probe))
        if addition.name in wanted
    ]
    if dry_run:
        _print_plan(folder, settings, config, jobs, len(photos), processes)
        return
    run_all(folder, settings, config, inputs, jobs, measure, processes)
    document = {"settings": settings} | collect(folder)
    _report(folder, document)


def parts(probe: str | None) -> list[Addition]:
    """ADDITIONS with this file as the probe."""
    path = json.dumps(absolute(probe))
    return [
        replace(part, changes=tuple(change.replace("{probe}", path) for change in part.changes)) for part in ADDITIONS
    ]


def base_config(options: dict) -> TrainConfig:
    """The dense recipe as --set, --teacher and --epochs have it; its runs are short, so is their warm-up."""
    recipe, epochs = RECIPES["dense"], options["epochs"]
    config = replace(
        recipe,
        epochs=epochs,
        warmup_epochs=epochs * recipe.warmup_epochs / recipe.epochs,
        teacher=replace(recipe.teacher, spec=options["teacher"], weights=absolute(options["teacher_weights"])),
        name="addition",
    )
    for change in options["changes"]:
        config = config.changed(change)
    config.model_config()
    return config


def without(config: TrainConfig, addition: Addition, seed: int) -> TrainConfig:
    """The settings of one run."""
    for change in addition.changes:
        config = config.changed(change)
    return replace(config, seed=seed)


def run_folder(folder: Path, addition: Addition, seed: int) -> Path:
    return folder / "runs" / f"{addition.name}_seed{seed}"


def run_all(folder: Path, settings: dict, config: TrainConfig, inputs, jobs: list, measure, processes) -> None:
    """Train and measure what is not there yet; a run that was stopped goes on from its checkpoint."""
    import numpy as np
    from tqdm import tqdm

    from zeroseg.training.ablation.grid import begin, read_result
    from zeroseg.training.ablation.runs import measure_model, write_json
    from zeroseg.training.distill import distill
    from zeroseg.training.progress import progress_bar

    begin(folder, settings)
    pending = [job for job in jobs if read_result(run_folder(folder, *job)) is None]
    with progress_bar("additions", "run", len(jobs), len(jobs) - len(pending), True) as bar:
        for addition, seed in pending:
            path, began = run_folder(folder, addition, seed), time.monotonic()
            distill(
                without(config, addition, seed),
                replace(inputs, run=str(path)),
                processes,
                resume=(path / "config.json").is_file(),
            )
            trained_s, began = time.monotonic() - began, time.monotonic()
            result = measure_model(path / "model.pt", measure, np.linspace(0.04, 0.96, 24))
            result |= {"train_s": trained_s, "measure_s": time.monotonic() - began}
            write_json(path / "result.json", result)
            (path / "checkpoint.pt").unlink(missing_ok=True)  # the optimiser's state is of no more use
            tqdm.write(
                f"{path.name}: mIoU {result['miou']:.1f}, best {result['miou_best']:.1f}, oracle "
                f"{result['oracle']:.1f}",
                file=sys.stderr,
            )
            bar.update()


def collect(folder: Path) -> dict:
    """JSON-able: for the recipe and every part, values of each seed that is there, their mean and spread, and for parts
    what they bring: the value with the part minus that without, over the seeds that both have.
    """
    from zeroseg.training.ablation.grid import read_result
    from zeroseg.training.ablation.report import MEASURES, spread

    def results(addition: Addition) -> dict[int, dict]:
        paths = (folder / "runs").glob(f"{addition.name}_seed*")
        found = {int(path.name.rpartition("_seed")[2]): read_result(path) for path in paths}
        return {seed: found[seed] for seed in sorted(found) if found[seed] is not None}

    rows, whole = [], results(RECIPE)
    for addition in (RECIPE, *ADDITIONS):
        own = results(addition)
        if not own:
            continue
        row = {
            "name": addition.name,
            "instead": addition.instead,
            "changes": list(addition.changes),
            "added": addition.added,
            "seeds": list(own),
        }
        shared = [seed for seed in own if seed in whole]
        for name in MEASURES:
            row[name] = spread([result[name] for result in own.values()])
            if addition is not RECIPE and shared:
                sign = -1 if addition.added else 1
                row[name]["brings"] = spread([sign * (whole[seed][name] - own[seed][name]) for seed in shared])
        rows.append(row)
    return {"rows": rows}


def text(document: dict) -> str:
    """The table for a terminal, in percent: mean over seeds, and in brackets what the part brings."""
    from zeroseg.training.ablation.report import MEASURES

    heads = "".join(f"{title:>20}" for title in MEASURES.values())
    lines = [f"{'without, or +':<16}{'seeds':>6}{heads}  instead"]
    for row in document["rows"]:
        cells = ""
        for name in MEASURES:
            value = row[name]
            cell = f"{value['mean']:.1f}"
            if "brings" in value:
                cell += f" ({value['brings']['mean']:+.1f})"
            elif value["sd"] is not None:
                cell += f" ± {value['sd']:.1f}"
            cells += f"{cell:>20}"
        name = "nothing" if row["name"] == RECIPE.name else "+ " * row["added"] + row["name"]
        lines.append(f"{name:<16}{len(row['seeds']):>6}{cells}  {row['instead']}")
    return "\n".join(lines)


def draw(document: dict, path: Path) -> None:
    """What every part brings, a bar per measure and a dot per seed; the band is the recipe's own range."""
    from matplotlib.figure import Figure

    whole = next((row for row in document["rows"] if row["name"] == RECIPE.name), None)
    rows = [row for row in document["rows"] if "brings" in row["miou"]]
    if whole is None or not rows:
        return
    figure = Figure(figsize=(9, 1.6 + 0.34 * len(rows)), dpi=100, layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    titles = {"miou": "mIoU, threshold of the rule", "miou_best": "best threshold on masks", "oracle": "oracle names"}
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        places = range(len(rows))
        axes.barh(places, [row[name]["brings"]["mean"] for row in rows], color="C0", alpha=0.6)
        for place, row in zip(places, rows, strict=True):
            axes.plot(row[name]["brings"]["values"], [place] * len(row[name]["brings"]["values"]), ".", color="C1")
        half = (whole[name]["high"] - whole[name]["low"]) / 2
        axes.axvspan(-half, half, color="0.85", zorder=0)
        axes.set_title(title, fontsize=10)
        axes.set_xscale("symlog", linthresh=4)  # most parts bring a point or two, some everything
        axes.set_xticks((-4, -2, 0, 2, 4, 10, 40), ("-4", "-2", "0", "2", "4", "10", "40"))
        axes.set_yticks(places, ["+ " * row["added"] + row["name"] for row in rows])
        axes.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()
    figure.supxlabel("contribution of the part in points; orange: seeds; grey: the recipe's own range", fontsize=9)
    figure.savefig(path)


def _print_plan(folder, settings, config, jobs, photos: int, processes) -> None:
    from zeroseg.training.ablation.grid import check_settings, read_result
    from zeroseg.training.estimate import estimate

    check_settings(folder, settings)
    click.echo(json.dumps(settings, indent=1))
    pending = 0
    for addition, seed in jobs:
        done = read_result(run_folder(folder, addition, seed)) is not None
        pending += not done
        click.echo(f"{'done' if done else 'to do':<6} {run_folder(folder, addition, seed).name}")
    click.echo(f"{len(jobs)} runs, {len(jobs) - pending} done; one of them:")
    for line in estimate(config, photos, processes).lines(config, processes):
        click.echo(line)


def _report(folder: Path, document: dict) -> None:
    from zeroseg.training.ablation.runs import write_json

    write_json(folder / RESULT, document)
    draw(document, folder / FIGURE)
    click.echo(text(document))
    click.echo(f"wrote {folder / RESULT} and {folder / FIGURE}")


if __name__ == "__main__":
    main()
