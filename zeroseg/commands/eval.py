"""zeroseg eval: mIoU of a model on a folder of photos and masks."""

from pathlib import Path

import click

from zeroseg.commands.backend import backend_option
from zeroseg.commands.command import Command
from zeroseg.commands.reading import reading_options
from zeroseg.commands.threshold import Score

DATASETS = (
    "folder",
    "voc",
    "voc20",
    "context",
    "context59",
    "coco-object",
    "coco-stuff",
    "ade20k",
    "cityscapes",
    "voc-dev",
)
PATH = click.Path(path_type=Path)
NOT_FOR_SUITES = ("dataset", "class_file", "list_file", "names", "subset", "sweep", "pictures")


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=PATH, metavar="FOLDER")
# The photos and masks
@click.option(
    "--dataset",
    type=click.Choice(DATASETS),
    default="folder",
    show_default=True,
    help="Layout of FOLDER; folder: images, masks, classes.txt and, optionally, list.txt.",
)
@click.option(
    "--suite",
    type=click.Choice(["ovss8"]),
    help="Measure all sets in FOLDER and print the table beside published results. ovss8: VOC21, Context60, "
    "COCO-Object, VOC20, Cityscapes, Context59, ADE20K, COCO-Stuff.",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=PATH",
    help="--suite: folder of one set, such as voc, context, coco, cityscapes or ade20k.",
)
@click.option(
    "--classes", "class_file", type=PATH, metavar="FILE", help="File with the class names, for --dataset folder."
)
@click.option(
    "--list", "list_file", type=PATH, metavar="FILE", help="File with the names of the photos, for --dataset folder."
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Use only the first N photos.")
@click.option(
    "--subset",
    metavar="NAMES",
    help="Classes whose mean is also shown: a list with commas, animals, things (COCO's 80), or none.  [default: "
    "animals for voc-dev, else none]",
)
# The model and the words
@click.option(
    "--model",
    metavar="FILE|NAME",
    help="Model file (.onnx, .pt), a bundled name, or an open_clip model "
    "such as open_clip:ViT-B-16/openai.  [default: bundled]",
)
@reading_options
@backend_option
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all this process may use]"
)
@click.option(
    "--labels",
    type=click.Choice(["official", "plain", "distractors", "absent", "all", "published"]),
    help="Label set: the protocol's names, the dataset's own, those and 50 others, those 50 alone, all of these in "
    "turn, or SCLIP's words.  [default: official; --suite with an open_clip model: published]",
)
@click.option(
    "--names",
    type=PATH,
    metavar="FILE",
    help="Words instead of --labels: one line per class, words separated by commas; words on the "
    "background's line mean background.",
)
@click.option(
    "--text",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Source of the label vectors: auto, or open_clip if it is installed.",
)
@click.option("--pack", type=PATH, metavar="FILE", help="labels.npz with the label vectors, instead of --text.")
# The protocol
@click.option(
    "--protocol",
    type=click.Choice(["deployment", "groupvit"]),
    default="deployment",
    show_default=True,
    help="deployment: as zeroseg-infer does; groupvit: GroupViT's sliding windows.",
)
@click.option(
    "--threshold",
    type=Score(),
    metavar="SCORE",
    help="Scores below this are background.  [default: the model's own, none if there is no background class; for "
    "groupvit the ZeroSeg paper's]",
)
@click.option(
    "--sweep",
    is_flag=True,
    help="Also measure other thresholds (the best one is optimistic: it is chosen on the test masks).",
)
@click.option(
    "--edges",
    type=click.Choice(["on", "off"]),
    help="Whether masks follow the photo's edges; only with --protocol deployment.  [default: on there]",
)
@click.option("--short-side", type=click.IntRange(1), metavar="PX", help="groupvit: short side of the resized photo.")
@click.option("--window", type=click.IntRange(1), metavar="PX", help="groupvit: side of the windows.")
@click.option("--stride", type=click.IntRange(1), metavar="PX", help="groupvit: distance between windows.")
@click.option(
    "--logit-scale",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="groupvit, or --background-rule probability: factor of the scores before the softmax.",
)
@click.option(
    "--background-rule",
    type=click.Choice(["score", "probability"]),
    help="What --threshold is compared with: a label's score, or its softmax over all words.  [default: score; "
    "--suite with an open_clip model: probability]",
)
@click.option(
    "--top-names",
    type=click.IntRange(0),
    metavar="N",
    help="groupvit: number of names that the image-level filter keeps; 0: no filter.",
)
# Output
@click.option(
    "--out",
    type=PATH,
    metavar="DIR",
    help="Folder for the report (text, JSON) and the pictures; --suite resumes in it.  [default for --suite: "
    "ovss8-MODEL]",
)
@click.option(
    "--pictures",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Draw photo, mask and prediction of N evenly spaced photos.  Needs --out.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be measured and stop.")
@click.pass_context
def evaluate(
    ctx, suite, sets, edges, short_side, window, stride, logit_scale, top_names, background_rule, protocol, **options
):
    """Measure mIoU, labelling and grouping on photos with masks.

    Prints a table, then one JSON line.

    \b
    Example:
      zeroseg eval VOCdevkit --dataset voc --labels all
      zeroseg eval ADEChallengeData2016 --dataset ade20k --model open_clip:ViT-B-16/openai
      zeroseg eval my-photos --protocol groupvit --sweep --out report --pictures 8
      zeroseg eval data --suite ovss8 --model open_clip:ViT-B-16/openai
    """
    from zeroseg.evaluation.protocol import ProtocolConfig
    from zeroseg.evaluation.run import EvalOptions, run_eval

    if sets and not suite:
        raise click.UsageError("--set: only with --suite")
    if suite:
        _refuse_for_suites(ctx)
    if options["pictures"] and options["out"] is None:
        raise click.BadParameter("needs --out DIR to write the pictures to", param_hint="--pictures")
    fields = {"short_side_px": short_side, "window_px": window, "stride_px": stride, "logit_scale": logit_scale}
    given = {name: value for name, value in fields.items() if value is not None}
    if top_names is not None:
        given["top_names"] = top_names or None
    if background_rule == "probability":
        if protocol == "groupvit":
            raise click.UsageError("--background-rule: groupvit has its own rule; use --protocol deployment")
        scale = given.pop("logit_scale", None)
    if given and protocol != "groupvit":
        option = next(iter(given)).removesuffix("_px").replace("_", "-")
        raise click.UsageError(f"--{option}: only with --protocol groupvit")
    if edges == "on" and protocol == "groupvit":
        raise click.UsageError("--edges on: only with --protocol deployment")
    given["edges"] = protocol == "deployment" and edges != "off"
    if background_rule == "probability":
        given |= {"background_rule": background_rule} | ({"logit_scale": scale} if scale else {})
    chosen = EvalOptions(config=ProtocolConfig(protocol, **given), **options)
    if not suite:
        run_eval(chosen)
        return
    from zeroseg.evaluation.suite_run import Suite, run_suite

    scale = ctx.params["logit_scale"] if protocol == "deployment" else None
    run_suite(chosen, Suite(suite, _folders(sets), background_rule, scale))


def _refuse_for_suites(ctx) -> None:
    """A usage error for an option that was given although every set of a suite has its own."""
    for name in NOT_FOR_SUITES:
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = next(p.opts[0] for p in ctx.command.params if p.name == name)
            raise click.UsageError(f"{option}: not with --suite, whose sets have their own")


def _folders(sets: tuple[str, ...]) -> dict[str, Path]:
    """NAME=PATH, several times -> name -> path."""
    folders = {}
    for text in sets:
        name, equals, path = text.partition("=")
        if not equals or not path or name in folders:
            raise click.BadParameter(f"expected NAME=PATH, each name once, got {text!r}", param_hint="--set")
        folders[name] = Path(path).expanduser()
    return folders


if __name__ == "__main__":
    evaluate()
