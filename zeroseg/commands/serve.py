"""zeroseg-serve: the page and the REST interface, with a live source or for photos alone."""

import click

from zeroseg.commands.command import Command
from zeroseg.commands.live_options import LOOK, NAMES, NETWORK, SERVER, SOURCE, TRITON, options
from zeroseg.commands.reading import reading_options
from zeroseg.commands.threshold import threshold_option


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", required=False, metavar="[SOURCE]")
@click.option(
    "--labels",
    metavar="WORDS",
    help="Words at the start: list with commas, @FILE with one label per line, or labels.npz.",
)
@click.option(
    "--collection", metavar="DIR", help="Search this collection (zeroseg index) at /search; alone, or besides."
)
@click.option("--root", metavar="[OLD=]NEW", help="Where the collection's photos are now, if their folder has moved.")
@click.option(
    "--text",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Source of the label vectors: auto, words (the bundled table), open_clip or open_clip:FILE.",
)
@threshold_option
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="0..1",
    help="Opacity of the overlay.",
)
@options(SERVER, SOURCE, LOOK)
@click.option(
    "--model",
    metavar="FILE|NAME",
    help="Model file (.onnx, .pt), open_clip:ARCH/TAG, radio:VERSION or a bundled name.  [default: bundled]",
)
@reading_options
@click.option("--backend", default="auto", show_default=True, metavar="NAME", help="Back end that runs the network.")
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all this process may use]"
)
@options(NETWORK)
@click.option(
    "--engine",
    type=click.Choice(["own", "triton"]),
    default="own",
    show_default=True,
    help="own: run one photo at a time in this process. triton: start the Triton Inference Server, "
    "which runs the photos of many clients in batches and also answers over its own HTTP and "
    "gRPC.",
)
@options(TRITON)
def serve(source, camera, labels, engine, collection, root, **given):
    """Serve a web page with a live picture where you can change the words, and POST /segment for programs.

    SOURCE is a camera (or --camera 0), a video file, a stream's address, images, or test://. Files are played in a
    loop. Without a SOURCE, the page takes photos only. /openapi.json describes the API.

    \b
    Example:
      zeroseg-serve --camera 0 --labels "cat,dog"
      zeroseg-serve --labels "cat,dog" --host 0.0.0.0 --token a-long-secret
      zeroseg-serve --labels "cat,dog" --engine triton
      zeroseg-serve --collection DIR
    """
    import time

    started = time.perf_counter()
    from zeroseg.commands.live_run import LiveOptions, run_live, serve_photos

    if source is not None and camera is not None:
        raise click.UsageError("expected a SOURCE or --camera, got both")
    source = camera if source is None else source
    if collection is None and labels is None:
        raise click.UsageError("Missing option '--labels': what to look for, as in --labels \"cat,dog\"")
    if collection is not None and (source is not None or engine == "triton"):
        raise click.UsageError("--collection: goes with photos only; leave the SOURCE out, and use --engine own")
    if root is not None and collection is None:
        raise click.UsageError("--root: goes with --collection")
    triton = {name: given.pop(name) for name in NAMES["triton"]}
    if engine == "triton" and source is not None:
        raise click.UsageError("--engine triton serves photos only; leave the SOURCE out, or use --engine own")
    if engine == "triton" and given["short_side"] is not None:
        raise click.UsageError("--short-side: --engine triton runs photos at the model's own size; use --engine own")
    live = LiveOptions(labels=labels or "", serve=True, **given)
    if collection is not None:
        from zeroseg.commands.serve_collection import serve_collection

        serve_collection(live, collection, root)
        return
    if engine == "triton":
        from zeroseg.commands.serve_triton import serve_triton

        serve_triton(live, **triton)
    elif source is None:
        serve_photos(live)
    else:
        run_live([source], live, started)


def main():
    """Entry point of `zeroseg-serve`."""
    serve.main(prog_name="zeroseg-serve")


if __name__ == "__main__":
    main()
