"""The umbrella command `zeroseg` and the console script `zeroseg-infer`.

A sub-command lives with the code it runs and is imported when it is asked for, so `--help` stays instant whatever
the others need. The group turns a user's mistake into one line on stderr and exit code 1.
"""

import os
from importlib import import_module

import click

from zeroseg import __version__
from zeroseg.commands.command import Group, user_errors

# name -> where the command is, and the one line `zeroseg --help` shows for it (so that help imports none of them)
COMMANDS = {
    "infer": ("zeroseg.commands.infer:infer", "Segment photos by words."),
    "serve": ("zeroseg.commands.serve:serve", "Show a camera on a web page; segment photos for programs."),
    "annotate": ("zeroseg.commands.annotate:annotate", "Label a whole photo collection, as Parquet tables."),
    "index": ("zeroseg.commands.index:index", "Encode photos and videos once, to be searched by any words."),
    "search": ("zeroseg.commands.search:search", "Find pictures of an indexed collection by words."),
    "convert": ("zeroseg.commands.convert:convert", "Turn results into COCO, YOLO, VOC and other datasets."),
    "pack": ("zeroseg.commands.pack:pack", "Pack photos into tar files (shards)."),
    "push": ("zeroseg.commands.push:push", "Upload a model folder to the Hub."),
    "words": ("zeroseg.commands.words:words", "Show how words are understood; make label packs."),
    "eval": ("zeroseg.commands.eval:evaluate", "Measure mIoU on a folder of images and masks."),
    "train": ("zeroseg.training.train:main", "Distil a model from photos."),
    "export": ("zeroseg.export.cli:main", "Export a model to ONNX or TensorRT."),
    "doctor": ("zeroseg.commands.doctor:doctor", "Show what this machine can run, and why not the rest."),
}


def keep_openblas_to_one_thread() -> None:
    """Set its variable, unless it is set; before NumPy is imported.

    After a product of words and names OpenBLAS's other threads spin for a tenth of a second on the cores that the
    network needs next.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


class LazyGroup(Group):
    """The commands of COMMANDS, each imported when it is run or asked for help."""

    def main(self, *args, **options):
        keep_openblas_to_one_thread()
        return super().main(*args, **options)

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
    keep_openblas_to_one_thread()
    from zeroseg.commands.infer import infer as command

    command.main(prog_name="zeroseg-infer")
