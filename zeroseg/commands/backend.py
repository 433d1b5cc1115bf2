"""The option --backend, the same in every command that runs a network on photos."""

import click

from zeroseg.runtime.backends import BACKENDS

backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", *BACKENDS]),
    default="auto",
    show_default=True,
    metavar="NAME",
    help=f"Back end that runs the network: auto, {', '.join(BACKENDS)}.",
)
