"""zeroseg-infer: photos in; overlay, label map and JSON out."""

from pathlib import Path

import click

from zeroseg.cli import Command

KINDS = ("overlay", "labels", "json", "contact")


class KindList(click.ParamType):
    """A comma-separated choice of what to write."""

    name = "kinds"

    def convert(self, value, param, ctx):
        kinds = tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            self.fail(f"expected one or more of {', '.join(KINDS)}, got {value!r}", param, ctx)
        return kinds


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", nargs=-1, required=True, metavar="PHOTO...")
# What to look for
@click.option("--labels", required=True, metavar="WORDS",
              help="Comma list, @FILE with one label a line, or labels.npz.")
@click.option("--text", default="auto", show_default=True, metavar="NAME",
              help="What turns words into vectors: auto, words (the bundled table), open_clip or open_clip:FILE.")
@click.option("--threshold", type=float, metavar="SCORE",
              help="Segments whose best label scores below this are background.  [default: the model's own]")
# What to write
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="zeroseg-out", show_default=True,
              metavar="DIR", help="Folder for the results; made if needed.")
@click.option("--save", type=KindList(), default="overlay,labels,json", show_default=True, metavar="KINDS",
              help="Which results: overlay, labels (label-map PNG), json, contact (one sheet of all overlays).")
@click.option("--alpha", type=click.FloatRange(0, 1), default=0.5, show_default=True, metavar="0..1",
              help="Strength of the colours over the photo.")
# How to run
@click.option("--model", metavar="FILE|NAME", help="Model file (.onnx, .pt) or a bundled name.  [default: bundled]")
@click.option("--backend", type=click.Choice(["auto", "onnxruntime", "torch"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), metavar="N",
              help="CPU threads.  [default: all this process may use]")
def infer(sources, labels, text, threshold, out, save, alpha, model, backend, threads):
    """Find what you name in photos.

    PHOTO is a picture, a folder of pictures, or a glob in quotes. Words the model does not know by heart are placed
    near words that it knows and marked with ~.

    \b
    Example:
      zeroseg-infer photo.jpg --labels "cat,sofa,houseplant"
      zeroseg-infer holiday/ "more/*.png" --labels @words.txt --out found --save overlay,contact
    """
    import time

    started = time.perf_counter()
    from zeroseg.commands.infer_run import InferOptions, run_infer

    options = InferOptions(labels=labels, text=text, threshold=threshold, out=out, save=save, alpha=alpha, model=model,
                           backend=backend, threads=threads)
    failed = run_infer(list(sources), options, started)
    raise SystemExit(1 if failed else 0)
