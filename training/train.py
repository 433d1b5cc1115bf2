"""`python training/train.py`, `zeroseg train`: distil a student from a frozen teacher, with unlabelled photos only."""

import json
import os
import sys
from pathlib import Path

import click

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run as a file from a checkout that is not installed; appended, so an installed one wins
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.commands.command import Command
from zeroseg.config import PRESETS
from zeroseg.dense.spec import READINGS
from zeroseg.errors import ZerosegError
from zeroseg.training.recipes import RECIPES, TrainConfig

EXAMPLE = "python training/train.py --photos ~/photos --labels ~/labels --out runs/first"
LABEL_FILES = {
    "label_names": "names.txt",
    "label_vectors": "clip_vitb32_text.npy",
    "class_names": "imagenet_names.jsonl",
}
# options that shape the run, and the setting each one is
SETTINGS = {
    "preset": "preset",
    "teacher": "teacher.spec",
    "teacher_weights": "teacher.weights",
    "helper_weights": "parts.weights",
    "tf_weights": "teacher.tf_weights",
    "reading": "teacher.reading",
    "helper": "teacher.helper",
    "epochs": "epochs",
    "batch": "batch",
    "micro_batch": "micro_batch",
    "lr": "lr",
    "stem_views": "stem_views",
    "precision": "precision",
    "compile": "compile",
    "recompute": "recompute",
    "seed": "seed",
}
DIR = click.Path(file_okay=False)
FILE = click.Path(dir_okay=False)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
# Photos and folders
@click.option(
    "--photos",
    type=DIR,
    metavar="DIR",
    help="Photos for training: a folder, searched recursively, or a folder of shards (zeroseg pack); no labels needed.",
)
# torchrun reads --run as one of its own options, hence --out
@click.option(
    "--out", "--run", "run_folder", type=DIR, metavar="DIR", help="Folder of this run.  [default: runs/RECIPE]"
)
@click.option(
    "--cache",
    type=DIR,
    metavar="DIR",
    help="Cache of the teacher's outputs.  [default: runs/cache; for shards, the folder cache beside them]",
)
@click.option("--resume", is_flag=True, help="Resume the run in --out.")
@click.option("--limit", type=click.IntRange(1), metavar="PHOTOS", help="Number of photos to use, evenly spaced.")
# Teacher
@click.option(
    "--teacher", metavar="SPEC", help="open_clip:ARCH/TAG, open_clip:ARCH/FILE, radio:VERSION or timm:NAME+NAME."
)
@click.option(
    "--reading",
    type=click.Choice(READINGS),
    metavar="NAME",
    help="Attention variant that gives an open_clip teacher's patch embeddings.  [default: the best for the tower]",
)
@click.option(
    "--helper",
    metavar="NAME|FILE",
    help="For an open_clip teacher, instead of --reading: a DINO, such as dinov2_vits14 or dino_vitb8, a TIPS "
    "(tipsv2_vitb14), or a file with a ViT's weights.",
)
@click.option("--teacher-weights", type=DIR, metavar="DIR", help="Folder with NAME.safetensors for timm teachers.")
@click.option("--helper-weights", type=DIR, metavar="DIR", help="Folder with the files of the helper teachers.")
@click.option(
    "--cached-only", is_flag=True, help="With helper teachers: train only on photos whose targets are cached."
)
@click.option(
    "--tf-weights",
    metavar="NAME",
    multiple=True,
    help="timm teachers whose local weights come from TensorFlow (padding, inputs in [-1, 1]).",
)
@click.option(
    "--labels",
    type=DIR,
    metavar="DIR",
    help=f"Folder with the three label files for classifier teachers: {', '.join(LABEL_FILES.values())}.",
)
@click.option("--label-names", type=FILE, metavar="TXT", help="Names, one a line.")
@click.option("--label-vectors", type=FILE, metavar="NPY", help="Their text embeddings, (N, D), row for row.")
@click.option("--class-names", type=FILE, metavar="JSONL", help="Names of each class of the classifiers.")
@click.option("--label-space", metavar="NAME", default="openai/clip-vit-base-patch32", help="Space of the embeddings.")
# Recipe
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="dense", help="The set of settings to start from.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Size of the student.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), metavar="N", help="Passes over the photos.")
@click.option("--batch", type=click.IntRange(1), metavar="PHOTOS", help="Photos per step, over all processes.")
@click.option("--micro-batch", type=click.IntRange(1), metavar="PHOTOS", help="Photos per forward pass.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), metavar="RATE", help="Learning rate.")
@click.option("--stem-views", type=click.IntRange(0), metavar="CROPS", help="Cached crops per photo; 0: no cache.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Of everything random.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Any other setting of -n's output, such as losses.place=2 or model.head_width=256 (JSON values).",
)
@click.option(
    "--stem-weights",
    type=FILE,
    metavar="FILE",
    help="ImageNet weights of a hybrid student's stem.  [default: in --teacher-weights, else the hub]",
)
@click.option("--initial", type=FILE, metavar="FILE", help="model.pt whose weights to start from.")
# Machine
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where to compute.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="Autocast; auto measures on a CPU.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: torch's choice]")
@click.option("--workers", type=click.IntRange(0), default=0, metavar="N", help="Processes that decode photos.")
@click.option("--compile", is_flag=True, default=None, help="Compile the network (torch.compile).")
@click.option("--recompute", is_flag=True, default=None, help="Gradient checkpointing: less memory, more time.")
@click.option("--max-steps", type=click.IntRange(1), metavar="N", help="Stop after this step; --resume continues.")
@click.option(
    "-n",
    "--dry-run",
    is_flag=True,
    help="Print the settings and an estimate of the run's cost, from ten seconds of measurement here; train nothing.",
)
@click.option("--print-config", is_flag=True, help="Print the resolved settings as JSON and exit.")
@click.pass_context
def main(ctx, **options):
    """Distil an open-vocabulary segmentation model from photos without labels.

    \b
    Examples:
      # a small student of three ImageNet classifiers with label embeddings
      python training/train.py --photos ~/photos --labels ~/labels --out runs/first
      # the paper's recipe with CLIP as the teacher
      python training/train.py --photos ~/photos --recipe paper --out runs/paper
      # the same on eight GPUs; after a crash, add --resume
      torchrun --nproc-per-node 8 training/train.py --photos ~/photos --recipe paper --out runs/paper
    """
    given = {name for name in options if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
    run = options["run_folder"] or f"runs/{options['recipe']}"
    if options["resume"]:
        config, inputs = _resume(run, options, given)
    else:
        config, inputs = _config(options, RECIPES[options["recipe"]]), _inputs(run, options)
    if options["dry_run"] or options["print_config"]:
        resolved = {"config": config.to_dict(), "inputs": inputs, "model": config.model_config().to_dict()}
        click.echo(json.dumps(resolved, indent=1))
        if not options["print_config"]:
            from zeroseg.training.teachers.described import lines

            click.echo("\n".join(lines(config)))
            _estimate(config, inputs, options)
        return
    if not inputs["photos"]:
        raise ZerosegError(f"no photos for training: give --photos DIR, as in {EXAMPLE}")
    _train(config, inputs, options)


def _config(options: dict, config: TrainConfig) -> TrainConfig:
    """config with every option that was given, and then every --set, applied."""
    for option, path in SETTINGS.items():
        value = options[option]
        if value not in (None, ()):
            if option in ("teacher_weights", "helper_weights"):
                value = os.path.abspath(os.path.expanduser(value))
            if option == "helper" and os.path.isfile(os.path.expanduser(value)):  # else it is a name
                value = os.path.abspath(os.path.expanduser(value))
            config = config.set(path, list(value) if isinstance(value, tuple) else value)
    for change in options["changes"]:
        config = config.changed(change)
    return config


def _inputs(run: str, options: dict) -> dict:
    """Fields of zeroseg.training.distill.Inputs, as absolute paths."""
    inputs = {
        "photos": options["photos"],
        "run": run,
        "cache": options["cache"] or _cache(options["photos"]),
        "initial": options["initial"],
        "stem_weights": options["stem_weights"],
    }
    for option, name in LABEL_FILES.items():
        inputs[option] = options[option] or (options["labels"] and os.path.join(options["labels"], name))
    inputs = {name: path and os.path.abspath(os.path.expanduser(path)) for name, path in inputs.items()}
    given = {name: options[name] for name in ("label_space", "limit", "cached_only")}
    return inputs | given


def _cache(photos: str | None) -> str:
    """Where the teacher's embeddings of these photos go when nothing is said."""
    folder = os.path.expanduser(photos or "")
    sharded = os.path.isdir(folder) and any(name.lower().endswith(".tar") for name in os.listdir(folder))
    return os.path.join(folder, "cache") if sharded else "runs/cache"


def _resume(run: str, options: dict, given: set[str]) -> tuple[TrainConfig, dict]:
    """The settings that the run began with; what was given must not differ from them."""
    from zeroseg.training.run_folder import RunFolder

    stored = RunFolder(run).read_config()
    config = TrainConfig.from_dict(stored["config"])
    if given & {"recipe", "changes", *SETTINGS}:
        asked = _config(options, RECIPES[options["recipe"]] if "recipe" in given else config)
        before, now = _flat(config.to_dict()), _flat(asked.to_dict())
        # of `model` the run knows more than was asked for: what follows from its teacher
        different = [name for name in now if now[name] != before.get(name)]
        if different:
            raise ZerosegError(
                f"--resume: this run has {different[0]} = {json.dumps(before.get(different[0]))}, which "
                "cannot change; leave the option out or start another --out"
            )
    fresh = _inputs(run, options)
    moved = {"run", *(given & {"photos", "cache", "initial", "stem_weights", *LABEL_FILES})}
    moved |= set(LABEL_FILES) if "labels" in given else set()
    return config, stored["inputs"] | {name: fresh[name] for name in moved}


def _flat(values: dict, prefix: str = "") -> dict:
    """{"losses": {"place": 1}} -> {"losses.place": 1}."""
    result = {}
    for name, value in values.items():
        result |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return result


def _estimate(config: TrainConfig, inputs: dict, options: dict) -> None:
    """Print what the run takes; for each process that torchrun would start, as if it were alone here."""
    try:
        import torch

        from zeroseg.training.distill import Inputs, find_source
        from zeroseg.training.estimate import estimate
        from zeroseg.training.gpu_hours import gpu_hours
        from zeroseg.training.processes import device_of
    except ModuleNotFoundError as error:
        from zeroseg.errors import missing_extra

        raise missing_extra(error.name, "train", "Training") from error

    if options["threads"]:
        torch.set_num_threads(options["threads"])
    source = find_source(config, Inputs(**inputs)) if inputs["photos"] else None
    photos, processes = None if source is None else len(source), device_of(options["device"])
    hours = gpu_hours(config, source)
    if hours.embedding_dim and "embedding_dim" not in config.model:
        config = config.set("model.embedding_dim", hours.embedding_dim)
    found = estimate(config, photos, processes)
    seen = found.plan and found.plan.steps * config.batch
    for line in [*found.lines(config, processes), *hours.lines(photos, seen, found.flops, options["workers"])]:
        click.echo(line)


def _train(config: TrainConfig, inputs: dict, options: dict) -> None:
    try:
        import torch

        from zeroseg.training.distill import Inputs, distill
        from zeroseg.training.processes import join, leave, lost_ones_named
    except ModuleNotFoundError as error:
        from zeroseg.errors import missing_extra

        raise missing_extra(error.name, "train", "Training") from error

    if options["threads"]:
        torch.set_num_threads(options["threads"])
    if not inputs["stem_weights"] and config.teacher.weights:
        beside = Path(config.teacher.weights) / f"{config.model_config().stem}.safetensors"
        inputs = inputs | {"stem_weights": str(beside) if beside.is_file() else None}
    processes = join(options["device"])
    try:
        with lost_ones_named():
            distill(
                config,
                Inputs(**inputs),
                processes,
                resume=options["resume"],
                workers=options["workers"],
                until=options["max_steps"],
            )
    finally:
        leave()


if __name__ == "__main__":
    main()
