"""The options --reading, --helper and --denoise, the same in every command that takes an open_clip model's name.

They do what the settings of the same names do behind "@" in the name (zeroseg.dense.spec): the command gets a `model`
with these settings.
"""

from functools import wraps

import click

from zeroseg.dense.spec import READINGS, with_settings

OPTIONS = {
    "reading": click.option(
        "--reading",
        type=click.Choice(READINGS),
        metavar="NAME",
        help=f"For an open_clip model: attention variant that reads the patches, {', '.join(READINGS)}.  "
        "[default: the best for the model]",
    ),
    "helper": click.option(
        "--helper",
        metavar="NAME|FILE",
        help="For an open_clip model, instead of --reading: a DINO, such as dinov2_vits14 or dino_vitb8, a TIPS "
        "(tipsv2_vitb14), or a file with a ViT's weights.",
    ),
    "denoise": click.option(
        "--denoise",
        type=click.FloatRange(0, 1),
        metavar="P",
        help="For an open_clip or RADIO model: drop labels whose best patch has a probability below P.  "
        "[default: 0, drop none]",
    ),
}


def reading_options(command):
    """Add the options to a command with an argument or option `model`."""

    @wraps(command)
    def with_model(*args, model, **given):
        return command(*args, model=with_settings(model, {name: given.pop(name) for name in OPTIONS}), **given)

    for option in reversed(OPTIONS.values()):
        with_model = option(with_model)
    return with_model
