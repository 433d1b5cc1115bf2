"""`python training/ablations.py`: the paper's ablations (losses, scales, mask ratio) at a size for small machines.

The paper gives one number per variant. Here every variant is trained with several seeds. For each table, the report
says whether the published ORDER holds and which differences are clear of the spread. Absolute numbers depend on the
teacher, the photos and the length of training, so they are not comparable with the paper's.

The runs agree with the paper in centre crops, 30 cached views, L1 losses, segment matching over local views, mask ratio
0.6 and reconstruction of removed patches, unless a variant says otherwise. They differ in two points: the preset's
student starts from a frozen stem trained on ImageNet (it sees whole photos, so masking hides tokens, not pixels), and
--teacher names the teacher. Losses are summed over embedding dimensions, as in an L1 norm, and averaged over views and
segments, so a loss has the same weight for any number of views.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import click

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.commands.command import Command
from zeroseg.config import PRESETS
from zeroseg.errors import ZerosegError
from zeroseg.training.ablation.options import absolute, open_all, shared_options
from zeroseg.training.ablation.tables import TABLES
from zeroseg.training.recipes import RECIPES, ConseConfig, CropConfig, LossWeights, TeacherConfig, TrainConfig

FIGURE, RESULT = "ablations.png", "ablations.json"


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@shared_options("runs/ablations", limit=1000, seeds=3, epochs=8.0, eval_photos=100)
@click.option("--only", metavar="TABLES", default=",".join(TABLES), help="T4 losses, T3 scales, T5 mask ratio.")
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Steps per run, instead of --epochs.")
@click.option("--size", type=click.IntRange(32), metavar="PX", default=160, help="Side of the training crops.")
@click.option("--batch", type=click.IntRange(1), metavar="PHOTOS", default=16, help="Photos per step.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), metavar="RATE", default=1e-3, help="Learning rate.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="tiny", help="Size of the student.")
@click.option(
    "--eval-side", type=click.IntRange(32), metavar="PX", default=224, help="Short side of photos in the evaluation."
)
def main(only, seeds, dry_run, **options):
    """Train and measure every variant of the paper's ablation tables with several seeds.

    After an interruption, the same command resumes. Finished runs are kept, --seeds may grow, any other change is
    refused.

    \b
    Example:
      python training/ablations.py --photos ~/photos --voc-dev ~/voc-dev --labels ~/labels --teacher-weights ~/teacher
    """
    tables = [name.strip().upper() for name in only.split(",")]
    if not tables or set(tables) - set(TABLES) or len(set(tables)) < len(tables):
        raise ZerosegError(f"--only: expected some of {','.join(TABLES)}, got {only!r}")
    config = base_config(options, options["limit"])
    inputs, photos, teacher, measure, processes = open_all(config, options)
    from zeroseg.training.ablation.grid import Grid, plan_jobs  # needs torch, which open_all has found

    grid = Grid(config, inputs, photos, teacher, measure, processes)
    jobs = plan_jobs(tables, seeds)
    if dry_run:
        _print_plan(grid, jobs)
        return
    _report(grid, jobs, tables, seeds, grid.run(jobs))


def base_config(options: dict, photo_count: int) -> TrainConfig:
    """What all variants share: the paper's recipe for the preset, few photos and short runs."""
    size, weights = options["size"], options["teacher_weights"]
    hybrid = PRESETS[options["preset"]].encoder == "hybrid"
    epochs = options["epochs"]
    if options["steps"]:
        epochs = options["steps"] / max(1, photo_count // options["batch"])
    config = replace(
        RECIPES["paper"],
        preset=options["preset"],
        # a decoder of two layers, as the photos are few
        model={"image_size": size, "decoder_depth": 2, "reconstruction": True, "mask_ratio": 0.6},
        freeze_stem=hybrid,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        # vectors of length 1, as CLIP's: with a length for how sure they are, every segment matches the emptiest view
        teacher=TeacherConfig(
            options["teacher"], absolute(weights), conse=ConseConfig(strength_power=0.0, worn_gain=2.0)
        ),
        crops=CropConfig(sizes=((size, size),)),
        val_photos=0,
        losses=LossWeights(reconstruction=1.0),
        dim_reduction="sum",
        epochs=epochs,
        warmup_epochs=epochs / 10,
        batch=options["batch"],
        micro_batch=options["batch"],
        lr=options["lr"],
        lr_per_photos=0,
        betas=(0.9, 0.99),
        clip_norm=1.0,
        precision="fp32",
        short_side=options["eval_side"],
        max_long_side=2 * options["eval_side"],
        name="ablation",
    )
    for change in options["changes"]:
        config = config.changed(change)
    config.model_config()
    return config


def _print_plan(grid, jobs) -> None:
    grid.check()
    estimate = grid.estimate(jobs)
    done = [job for job in jobs if grid.result(job) is not None]
    click.echo(json.dumps(grid.settings(), indent=1))
    for job in jobs:
        click.echo(f"{'done' if job in done else 'to do':<6} {grid.steps(job):>6} steps  {job.name}")
    click.echo(
        f"{len(jobs)} runs, {len(done)} done; estimated from a few steps on this machine: training "
        f"{_minutes(estimate['train_s'])}, measuring {_minutes(estimate['measure_s'])}, the teacher "
        f"{_minutes(estimate['teacher_s'])} if nothing is cached; {estimate['memory_mib']:.0f} MiB of "
        "photos in memory"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _report(grid, jobs, tables, seeds, results) -> None:
    from zeroseg.training.ablation import report as ablation_report
    from zeroseg.training.ablation.runs import write_json

    by_run = {(job.variant.slug if job.variant else None, job.seed): result for job, result in results.items()}
    document = {"settings": grid.settings()} | ablation_report.collect(tables, seeds, by_run)
    write_json(grid.folder / RESULT, document)
    ablation_report.draw(document, grid.folder / FIGURE)
    click.echo(ablation_report.text(document))
    click.echo(f"wrote {grid.folder / RESULT} and {grid.folder / FIGURE}")
    click.echo(json.dumps(document))


if __name__ == "__main__":
    main()
