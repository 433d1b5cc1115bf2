"""zeroseg push: upload a model folder to the Hub."""

from pathlib import Path

import click

from zeroseg.commands.command import Command


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER")
@click.argument("name", metavar="OWNER/NAME")
@click.option("--revision", metavar="BRANCH", help="Branch to upload to; created if needed.  [default: main]")
@click.option("--private", is_flag=True, help="Make a new repository private.")
def push(folder, name, revision, private):
    """Upload a model folder, as Segmenter.save_pretrained writes it, to the Hub.

    The login is huggingface_hub's: hf auth login, or HF_TOKEN.

    \b
    Example:
      python -c 'from zeroseg import Segmenter; Segmenter.load("model.pt").save_pretrained("mine", onnx="model.onnx")'
      zeroseg push mine me/zeroseg-mine
    """
    from zeroseg.pretrained.saving import push_folder

    click.echo(f"sent: {push_folder(folder, name, revision, private)}")
