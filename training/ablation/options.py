"""Options that ablations.py and additions.py share. This module does not import torch, so help is printed at once."""

import os
from pathlib import Path

import click

from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.training.recipes import RECIPES, TrainConfig

DIR = click.Path(file_okay=False)
FILE = click.Path(dir_okay=False)
SUBSET = "background,cat,cow,dog,horse,person,sheep"


def shared_options(out: str, limit: int, seeds: int, epochs: float, eval_photos: int):
    """Decorator: the options of photos, teacher, measuring and machine, with these defaults."""
    options = (
        # Photos and folders
        click.option(
            "--photos", type=DIR, required=True, metavar="DIR", help="Photos to learn from, searched recursively."
        ),
        click.option(
            "--voc-dev",
            "voc",
            type=DIR,
            required=True,
            metavar="DIR",
            help="Photos with masks to measure on: images/, masks/, VOC's classes.",
        ),
        click.option(
            "--out", type=DIR, metavar="DIR", default=out, help="Folder of all runs; an existing one is resumed."
        ),
        click.option("--cache", type=DIR, metavar="DIR", default="runs/cache", help="Cache of the teacher's outputs."),
        click.option(
            "--limit",
            type=click.IntRange(2),
            metavar="PHOTOS",
            default=limit,
            help="Number of photos to use, evenly spaced.",
        ),
        # Runs
        click.option(
            "--seeds", type=click.IntRange(1), metavar="N", default=seeds, help="Runs per variant; 3 show a spread."
        ),
        click.option(
            "--epochs", type=click.FloatRange(0, min_open=True), metavar="N", default=epochs, help="Passes per run."
        ),
        click.option(
            "--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Any other setting of training/train.py."
        ),
        # Teacher
        click.option(
            "--teacher", metavar="SPEC", default=RECIPES["dense"].teacher.spec, help="As for training/train.py."
        ),
        click.option(
            "--teacher-weights", type=DIR, metavar="DIR", help="Folder with NAME.safetensors, also for the stem."
        ),
        click.option(
            "--stem-weights",
            type=FILE,
            metavar="FILE",
            help="ImageNet weights of the stem.  [default: in --teacher-weights, else the hub]",
        ),
        click.option("--labels", type=DIR, metavar="DIR", help="Folder with the label files of classifiers."),
        # Measuring
        click.option(
            "--eval-photos",
            type=click.IntRange(1),
            metavar="N",
            default=eval_photos,
            help="Number of photos of --voc-dev to measure on, from the first on.",
        ),
        click.option(
            "--threshold-photos",
            type=click.IntRange(2),
            metavar="N",
            default=100,
            help="Number of --photos, without masks, on which each background threshold is chosen.",
        ),
        click.option("--rule", metavar="RULE", default="minimum-error", help="otsu or minimum-error."),
        click.option("--subset", metavar="NAMES", default=SUBSET, help="Classes averaged."),
        click.option(
            "--label-pack",
            type=FILE,
            metavar="NPZ",
            help="VOC's names in the teacher's embedding space, from `zeroseg words`.",
        ),
        # Machine
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where to compute."),
        click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: torch's choice]"),
        click.option("-n", "--dry-run", is_flag=True, help="Print settings, runs and a time estimate, and exit."),
    )

    def decorate(command):
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def absolute(path: str | None) -> str | None:
    """An absolute path, ~ expanded; None stays None."""
    return path and os.path.abspath(os.path.expanduser(path))


def inputs_of(config: TrainConfig, options: dict):
    """zeroseg.training.distill.Inputs with absolute paths; label files where there is a folder of them."""
    from zeroseg.training.distill import Inputs
    from zeroseg.training.train import LABEL_FILES

    stem = absolute(options["stem_weights"])
    if not stem and config.teacher.weights:
        beside = Path(config.teacher.weights) / f"{config.model_config().stem}.safetensors"
        stem = str(beside) if beside.is_file() else None
    labels = {
        name: options["labels"] and absolute(os.path.join(options["labels"], file))
        for name, file in LABEL_FILES.items()
    }
    return Inputs(
        photos=absolute(options["photos"]),
        run=absolute(options["out"]),
        cache=absolute(options["cache"]),
        limit=options["limit"],
        stem_weights=stem,
        **labels,
    )


def open_all(config: TrainConfig, options: dict):
    """(inputs, photos, teacher, zeroseg.training.ablation.runs.Measure, processes), all checked; nothing is written.

    Raises ZerosegError, in one line, for anything missing or wrong, including torch.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise missing_extra(error.name, "train", "Training") from error
    if options["threads"]:
        torch.set_num_threads(options["threads"])

    from zeroseg.evaluation.evaluate import class_ids
    from zeroseg.evaluation.label_sets import label_set
    from zeroseg.evaluation.standard_sets import voc_dev
    from zeroseg.training.ablation.runs import Measure
    from zeroseg.training.build_teacher import build_teacher
    from zeroseg.training.choose_threshold import RULES
    from zeroseg.training.conse import load_label_space
    from zeroseg.training.photos import find_photos
    from zeroseg.training.processes import join

    if options["rule"] not in RULES:
        raise ZerosegError(f"--rule: expected one of {', '.join(RULES)}, got {options['rule']!r}")
    inputs, processes = inputs_of(config, options), join(options["device"])
    if processes.count > 1:
        raise ZerosegError("ablations: each run is short and uses one process; start the command without torchrun")
    photos, dataset = find_photos(inputs.photos, inputs.limit), voc_dev(absolute(options["voc"]))
    subset = tuple(name.strip() for name in options["subset"].split(","))
    class_ids(dataset, subset)  # refuses a name that is no class
    unlabelled = find_photos(inputs.photos, options["threshold_photos"])
    labels = None
    if options["labels"]:
        labels = load_label_space(inputs.label_names, inputs.label_vectors, inputs.class_names, inputs.label_space)
    teacher = build_teacher(config.teacher, labels, str(processes.device))
    _check_labels(options["label_pack"], teacher, label_set(dataset).names)
    measure = Measure(
        dataset,
        min(options["eval_photos"], len(dataset)),
        tuple(unlabelled.root / name for name in unlabelled.names),
        options["rule"],
        subset,
        options["label_pack"],
    )
    return inputs, photos, teacher, measure, processes


def _check_labels(path: str | None, teacher, names: tuple[str, ...]) -> None:
    """ZerosegError, before any training, if the names to measure with cannot be had in the teacher's space."""
    from zeroseg.words.pack import SPACE, LabelPack

    if path:
        pack = LabelPack.load(path)
        pack.require(teacher.space, teacher.dim)
        if tuple(pack.names) != names:
            raise ZerosegError(f"--label-pack: expected the names {', '.join(names)}, in this order")
    elif teacher.space != SPACE:
        raise ZerosegError(
            f"teacher {teacher.spec} uses the embedding space {teacher.space}: give --label-pack with "
            "VOC's names in that space, made by `zeroseg words`"
        )
