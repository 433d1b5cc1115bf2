"""The base of all commands: a user's mistake gives one line on stderr and exit code 1."""

import os
import sys
from contextlib import contextmanager

import click

from zeroseg.errors import ZerosegError


@contextmanager
def user_errors():
    """Turn the errors that bad input raises into click's `Error: ...`, exit code 1.

    ZEROSEG_TRACEBACK=1 keeps the traceback, for debugging. Characters that the output's encoding lacks are printed as
    escapes.
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
