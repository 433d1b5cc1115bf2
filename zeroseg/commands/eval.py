"""zeroseg eval: mIoU of a model on a folder of photos and masks."""

from pathlib import Path

import click

from zeroseg.commands.backend import backend_option
from zeroseg.commands.command import Command
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
    "--classes", "class_file", type=PATH, metavar="FILE", help="File with the class names, for --dataset folder."
)
@click.option(
    "--list", "list_file", type=PATH, metavar="FILE", help="File with the names of the photos, for --dataset folder."
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Use only the first N photos.")
@click.option(
    "--subset",
    metavar="NAMES",
    help="Classes whose mean is also shown: a list with commas, animals, or none.  [default: animals "
    "for voc-dev, else none]",
)
# The model and the words
@click.option(
    "--model",
    metavar="FILE|NAME",
    help="Model file (.onnx, .pt), a bundled name, or an open_clip model "
    "such as open_clip:ViT-B-16/openai.  [default: bundled]",
)
@backend_option
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all this process may use]"
)
@click.option(
    "--labels",
    type=click.Choice(["official", "plain", "distractors", "absent", "all"]),
    default="official",
    show_default=True,
    help="Label set: the protocol's names, the dataset's own, those and 50 others, those 50 alone, or all in turn.",
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
    help="Scores below this are background.  [default: the model's own; for groupvit the ZeroSeg paper's]",
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
    default="score",
    show_default=True,
    help="What --threshold is compared with: a label's score, or its softmax over all words.",
)
@click.option(
    "--top-names",
    type=click.IntRange(0),
    metavar="N",
    help="groupvit: number of names that the image-level filter keeps; 0: no filter.",
)
# Output
@click.option("--out", type=PATH, metavar="DIR", help="Folder for the report (text, JSON) and the pictures.")
@click.option(
    "--pictures",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Draw photo, mask and prediction of N evenly spaced photos.  Needs --out.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be measured and stop.")
def evaluate(edges, short_side, window, stride, logit_scale, top_names, background_rule, protocol, **options):
    """Measure mIoU, labelling and grouping on photos with masks.

    Prints a table, then one JSON line.

    \b
    Example:
      zeroseg eval VOCdevkit --dataset voc --labels all
      zeroseg eval ADEChallengeData2016 --dataset ade20k --model open_clip:ViT-B-16/openai
      zeroseg eval my-photos --protocol groupvit --sweep --out report --pictures 8
    """
    from zeroseg.evaluation.protocol import ProtocolConfig
    from zeroseg.evaluation.run import EvalOptions, run_eval

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
    run_eval(EvalOptions(config=ProtocolConfig(protocol, **given), **options))


if __name__ == "__main__":
    evaluate()
