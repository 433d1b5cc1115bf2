"""Make meanings equally likely beforehand in a finished student, instead of ImageNet's classes.

A student with the readout "prototypes" names a segment by softmax over class logits. Of ImageNet's thousand classes 118
are dogs, so a segment that is anything a little is a dog above all: sheep, cows and persons too. Taking log n_c off the
bias of class c, n_c the number of classes that mean about the same (zeroseg.training.conse.class_crowding), undoes
that. No photo, no mask and no training is needed; the text vectors in the model say which classes are alike.

    python training/balance_classes.py runs/first/model.pt -o balanced.pt
    python training/choose_threshold.py ~/photos --model balanced.pt --rule minimum-error --write

For a run from the start, --set teacher.conse.class_balance=1 does the same to the teacher's names.
"""

import sys
from pathlib import Path

import click

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.training.finished import finished_options, open_finished, save_finished


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@finished_options
@click.option(
    "--amount",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    metavar="0...1",
    help="How far: at 1 every meaning is equally likely beforehand.",
)
def main(model, out, amount):
    """Balance the classes that MODEL names segments by.

    \b
    Example:
      python training/balance_classes.py runs/first/model.pt -o balanced.pt
    """
    from zeroseg.commands.command import user_errors

    with user_errors():
        balance(model, out, amount)
    click.echo(f"wrote {out}; its threshold is the old one: choose it anew by training/choose_threshold.py")


def balance(path: Path, out: Path, amount: float) -> None:
    """Write the balanced model, in the precision of the given one. ZerosegError in one line when it cannot be done."""
    import torch

    from zeroseg.errors import ZerosegError
    from zeroseg.training.conse import class_crowding

    model, sidecar = open_finished(path, out)
    if model.config.readout != "prototypes":
        raise ZerosegError(
            f"{path}: expected a model that names segments by classes (readout prototypes), got readout "
            f"{model.config.readout}"
        )
    card = sidecar.get("card") or {}
    if card.get("class_balance"):
        raise ZerosegError(f"{path}: its classes are balanced already, by {card['class_balance']}")
    with torch.no_grad():
        model.readout.correct.bias -= amount * class_crowding(model.readout.vectors)
    save_finished(out, model, sidecar | {"card": card | {"class_balance": amount}}, like=path)


if __name__ == "__main__":
    main()
