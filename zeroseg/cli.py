"""The umbrella command `zeroseg` and the console script `zeroseg-infer`.

A sub-command lives with the code it runs and is imported when it is asked for, so `--help` stays instant whatever
the others need. The group turns a user's mistake into one line on stderr and exit code 1.
"""

import os
import sys
from contextlib import contextmanager
from importlib import import_module

import click

from zeroseg import __version__
from zeroseg.errors import ZerosegError

# before NumPy is imported: after a product of words and names, OpenBLAS's other threads spin for a tenth of a second on
# the cores that the network needs next
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# name -> where the command is, and the one line `zeroseg --help` shows for it (so that help imports none of them)
COMMANDS = {
    "infer": ("zeroseg.commands.infer:infer", "Segment photos by words."),
    "serve": ("zeroseg.commands.serve:serve", "Show a camera on a web page; segment photos for programs."),
    "annotate": ("zeroseg.commands.annotate:annotate", "Label a whole collection into one table."),
    "pack": ("zeroseg.commands.pack:pack", "Pack photos into tar files (shards)."),
    "words": ("zeroseg.commands.words:words", "Look words up and make label packs."),
    "eval": ("zeroseg.commands.eval:evaluate", "Measure mIoU on a folder of images and masks."),
    "train": ("zeroseg.training.train:main", "Distil a model from photos."),
    "export": ("zeroseg.export.cli:main", "Turn a model into what a machine runs."),
    "doctor": ("zeroseg.commands.doctor:doctor", "Say what this machine can run, and why not the rest."),
}


@contextmanager
def user_errors():
    """Turn the errors that bad input raises into click's `Error: ...`, exit code 1.

    ZEROSEG_TRACEBACK=1 leaves them alone, for whoever looks for a bug. What the output's encoding lacks is no error: it
    is printed as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except BrokenPipeError:  # `| head` has read enough: click ends the command quietly
        raise
    except (ZerosegError, ValueError, OSError) as error:
        if os.environ.get("ZEROSEG_TRACEBACK"):
            raise
        named = isinstance(error, OSError) and error.filename and error.strerror  # else "[Errno 2] No such file: 'x'"
        raise click.ClickException(f"{error.filename}: {error.strerror}" if named else str(error)) from error


class Command(click.Command):
    """A command whose bad input ends in one line; for commands that are console scripts of their own."""

    def invoke(self, ctx: click.Context):
        with user_errors():
            return super().invoke(ctx)


class Group(click.Group):
    """A group of such commands."""

    def invoke(self, ctx: click.Context):
        with user_errors():
            return super().invoke(ctx)


class LazyGroup(Group):
    """The commands of COMMANDS, each imported when it is run or asked for help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        with user_errors():
            return getattr(import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zeroseg")
def main():
    """Open-vocabulary segmentation: name what you look for, get masks.

    \b
    Example:
      zeroseg infer photo.jpg --labels "cat,sofa"
    """


def infer():
    """Entry point of `zeroseg-infer`."""
    from zeroseg.commands.infer import infer as command

    command.main(prog_name="zeroseg-infer")
