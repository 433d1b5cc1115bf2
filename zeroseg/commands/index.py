"""zeroseg index: encode photos and videos once, so that any words can be searched for afterwards."""

import re

import click

from zeroseg.commands.backend import backend_option
from zeroseg.commands.command import Command


class Seconds(click.ParamType):
    """A time such as 1s, 0.5s, 2min; a bare number is seconds."""

    name = "time"

    def convert(self, value, param, ctx):
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(s|min|h)?", value.strip())
        seconds = float(match[1]) * {"s": 1, "min": 60, "h": 3600, None: 1}[match[2]] if match else 0
        if not 0.01 <= seconds <= 86400:
            self.fail(f"expected a time from 0.01s to 24h, such as 1s or 2min, got {value!r}", param, ctx)
        return seconds


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("photos", nargs=-1, metavar="PHOTOS...")
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="DIR",
    help="The collection: a folder, or s3://bucket/name. An existing one is brought up to date.",
)
@click.option(
    "--every",
    type=Seconds(),
    default="1s",
    show_default=True,
    metavar="TIME",
    help="Time between frames of a video. A frame that looks like the last kept one is left out.",
)
@click.option("--model", metavar="FILE|NAME", help="Model file (.onnx, .pt) or a bundled name.  [default: bundled]")
@backend_option
@click.option(
    "--processes",
    type=click.IntRange(1),
    metavar="N",
    help="Processes, each with its own model.  [default: CPU threads / --threads, 1 on a GPU]",
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads of each process.  [default: 1]")
@click.option("--ray", metavar="ADDRESS", help="Encode on this Ray cluster (host:port or auto) instead.")
def index(photos, **options):
    """Encode PHOTOS once: any number of folders, images, videos and tar files (shards).

    Afterwards `zeroseg search` finds any words without running the network. Run the same command again to bring the
    collection up to date; without PHOTOS it checks all folders of the collection. It can be stopped at any time.
    DIR/bad.txt lists files that cannot be read.

    \b
    Example:
      zeroseg index ~/photos -o collection
      zeroseg index recordings/ -o cameras --every 2s --processes 4
    """
    import signal

    from zeroseg.commands.index_run import IndexOptions, run_index

    if options["ray"] and options["processes"]:
        raise click.UsageError("--processes: only for one machine; with --ray the cluster's CPUs decide")

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        stopped = run_index(list(photos), IndexOptions(**options))
    finally:
        signal.signal(signal.SIGTERM, before)
    raise SystemExit(130 if stopped else 0)
