"""Lower the scores of segments that score far less than the label's best segment in the photo.

When a thing is present, its label scores higher in every segment of the photo. So with a person in a street, the street
is labelled person too, at any fixed threshold. With a share r, a segment's score for a label falls off steeply below r
times the score of the label's best segment (zeroseg.segment.scores.fall_off). Nothing is trained, and no weights change
unless --half or --bits rounds them. The threshold, chosen on the scores before, stays the same.

    python training/set_score_share.py balanced.pt -o model.pt --share 0.65
"""

import sys
from pathlib import Path

import click

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.training.finished import finished_options, open_finished, round_rows, save_finished


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@finished_options
@click.option(
    "--share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.65,
    metavar="0..1",
    help="Share of the best segment's score; 0 leaves all scores unchanged.",
)
@click.option("--half", is_flag=True, help="Store the weights as float16, half the size.")
@click.option(
    "--bits",
    type=click.IntRange(4, 11),
    metavar="4..11",
    help="Round trained matrices to so many bits, row by row, so that a compressed file is smaller.",
)
def main(model, out, share, half, bits):
    """Lower scores of MODEL's segments that are below a share of the best one's.

    \b
    Example:
      python training/set_score_share.py balanced.pt -o model.pt --share 0.65
    """
    from zeroseg.commands.command import user_errors

    with user_errors():
        set_share(model, out, share, half, bits)
    click.echo(f"wrote {out}")


def set_share(path: Path, out: Path, share: float, half: bool = False, bits: int | None = None) -> None:
    """Write the model with config.score_share = share, and say so on its card; half stores its weights as float16, and
    bits rounds its trained matrices (round_rows). ZerosegError in one line when it cannot be done."""
    from dataclasses import replace

    model, sidecar = open_finished(path, out)
    model.config = replace(model.config, score_share=share)
    card = (sidecar.get("card") or {}) | {"score_share": share}
    if bits:
        round_rows(model, bits)
    save_finished(out, model, sidecar | {"card": card}, like=path, half=half)


if __name__ == "__main__":
    main()
