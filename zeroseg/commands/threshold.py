"""The option --threshold, the same in every command that segments."""

import json
import math

import click

from zeroseg.artifact import BUNDLED, DEFAULT_MODEL


class Score(click.types.FloatParamType):
    """A finite number: nothing scores NaN or more, and JSON has no infinity."""

    name = "score"

    def convert(self, value, param, ctx):
        score = super().convert(value, param, ctx)
        if not math.isfinite(score):
            self.fail(f"expected a finite number, got {value}", param, ctx)
        return score


class _Threshold(click.Option):
    """Its help names the bundled model's own threshold, read when help is asked for."""

    def get_help_record(self, ctx):
        names, text = super().get_help_record(ctx)
        try:
            own = json.loads((BUNDLED / f"{DEFAULT_MODEL}.json").read_text(encoding="utf-8"))["threshold"]
        except (OSError, ValueError, KeyError):  # this installation has no bundled model
            return names, f"{text}  [default: the model's own]"
        return names, f"{text}  [default: the model's own, {own:.3g} for {DEFAULT_MODEL}]"


threshold_option = click.option(
    "--threshold",
    cls=_Threshold,
    type=Score(),
    metavar="SCORE",
    help="Segments whose best label scores below this are background; scores lie between -1 and 1.",
)
