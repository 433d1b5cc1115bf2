"""Give all meanings the same prior in a finished student, instead of all ImageNet classes.

A student with the readout "prototypes" labels a segment by a softmax over class logits. 118 of ImageNet's thousand
classes are dogs, so an uncertain segment is labelled dog, also if it shows a sheep, a cow or a person. To undo this,
log n_c is subtracted from the bias of class c, where n_c is the number of classes with about the same meaning
(zeroseg.training.conse.class_crowding). This needs no photos, masks or training. The text vectors in the model say
which classes are alike.

    python training/balance_classes.py runs/first/model.pt -o balanced.pt
    python training/choose_threshold.py ~/photos --model balanced.pt --rule minimum-error --write

For a new run, --set teacher.conse.class_balance=1 does the same to the teacher's labels.
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
    help="Amount of balancing; at 1 every meaning has the same prior.",
)
def main(model, out, amount):
    """Balance the classes by which MODEL labels segments.

    \b
    Example:
      python training/balance_classes.py runs/first/model.pt -o balanced.pt
    """
    from zeroseg.commands.command import user_errors

    with user_errors():
        balance(model, out, amount)
    click.echo(f"wrote {out}; it still has the old threshold: choose a new one with training/choose_threshold.py")


def balance(path: Path, out: Path, amount: float) -> None:
    """Write the balanced model, in the precision of the given one. ZerosegError in one line when it cannot be done."""
    import torch

    from zeroseg.errors import ZerosegError
    from zeroseg.training.conse import class_crowding

    model, sidecar = open_finished(path, out)
    if model.config.readout != "prototypes":
        raise ZerosegError(
            f"{path}: expected a model that labels segments by classes (readout prototypes), got readout "
            f"{model.config.readout}"
        )
    card = sidecar.get("card") or {}
    if card.get("class_balance"):
        raise ZerosegError(f"{path}: its classes are already balanced, by {card['class_balance']}")
    with torch.no_grad():
        model.readout.correct.bias -= amount * class_crowding(model.readout.vectors)
    save_finished(out, model, sidecar | {"card": card | {"class_balance": amount}}, like=path)


if __name__ == "__main__":
    main()
