"""The part of zeroseg-export that writes the page: its options and its action."""

from pathlib import Path

import click

NAMES = ("web", "ort_web")
CHECKS = ("photos", "gate_photos", "gate_masks")  # options of the comparison with the model
_USED = {*NAMES, *CHECKS, "model", "dry_run"}


def web_options(command):
    """Add the options named in NAMES to a click command."""
    options = [
        click.option(
            "--web",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Write a page that runs the model inside the browser, with all that it needs, for any web server.",
        ),
        click.option(
            "--ort-web",
            type=click.Path(exists=True, path_type=Path),
            metavar="PATH",
            help="For --web: onnxruntime-web as a folder or tarball, without a network.  [default: fetched from "
            "npm's registry]",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def refuse_unused(given: set[str]) -> None:
    """Raise UsageError if an option was given, by name, that would do nothing."""
    if "web" not in given:
        unused, why = {"ort_web"} & given, "is for --web"
    else:
        unused, why = given - _USED, "has no effect with --web, which writes into its own folder, with 8-bit weights"
    for name in sorted(unused):
        raise click.UsageError(f"--{name.replace('_', '-')}: {why}; leave it out")


def run(model: Path | str, web: Path, ort_web: Path | None, options: dict, dry_run: bool) -> None:
    """options: those of ExportOptions that the gate needs. Raises ZerosegError in one line."""
    from zeroseg.dense.spec import is_dense_name
    from zeroseg.errors import ZerosegError, missing_extra

    if is_dense_name(model):
        raise ZerosegError("--web: an open_clip model has no segments; the page needs a network with segments")
    if dry_run:
        click.echo(f"would write a page for {model} into {web}")
        return
    try:
        from zeroseg.export.run import ExportOptions
        from zeroseg.export.web.folder import write_page
    except ModuleNotFoundError as error:
        raise missing_extra(error.name, "export", "--web") from error
    size = write_page(Path(model), web, ort_web, ExportOptions(half_weights=True, **options), click.echo)
    click.echo(f"wrote {web} ({size / 1e6:.1f} MB); to try it: python -m http.server --directory {web}")
