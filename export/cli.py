"""zeroseg-export: export a model.pt for other runtimes, after a check that it is the same model."""

import atexit
import gc
from pathlib import Path

import click
from click.core import ParameterSource

from zeroseg.commands.command import Command
from zeroseg.commands.reading import reading_options
from zeroseg.dense.spec import default_output, is_dense_name
from zeroseg.export.trt import command as engines
from zeroseg.export.web import command as page

DATASETS = ("folder", "voc", "context", "coco-object", "voc-dev")
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class Model(click.ParamType):
    """A file that is there, or an open_clip model's name."""

    name = "model"

    def convert(self, value, param, ctx):
        return value if is_dense_name(value) else FILE.convert(value, param, ctx)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=Model(), metavar="MODEL")
@reading_options
# What to make
@click.option("--onnx", "onnx_", is_flag=True, help="Write an ONNX file and its sidecar (.json).")
@click.option("--trt", is_flag=True, help="Build a TensorRT engine (.engine, .engine.json) on this GPU.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE|DIR",
    help="Where to write.  [default: MODEL with the suffix .onnx, .engine or .rtx, or MODEL-TARGET; "
    "for an open_clip model, ARCH.onnx in this folder]",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "auto"]),
    default="fp32",
    show_default=True,
    help="Precision of the graph; auto keeps the fastest one here that passes the gate.",
)
@click.option(
    "--weights",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="How float32 weights are stored; float16 halves the file, and the arithmetic stays float32.",
)
@click.option(
    "--masks",
    is_flag=True,
    help="Also write NAME.masks.onnx for other programs: image and label vectors in, masks out.",
)
@click.option("--symmetric", is_flag=True, help="int8 in TensorRT's form: signed, with zero point 0.")
@click.option(
    "--calibration", type=FOLDER, metavar="DIR", help="Photos that set the ranges of int8.  [default: bundled]"
)
@page.web_options
# How it is checked
@click.option(
    "--photo",
    "photos",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="Photo for the comparison; may be repeated.  [default: bundled photos]",
)
@click.option("--gate-photos", type=FOLDER, metavar="DIR", help="Folder of photos for the comparison.")
@click.option(
    "--gate-masks",
    type=click.Choice(DATASETS),
    metavar="LAYOUT",
    help="Layout of --gate-photos, as for zeroseg eval --dataset, if it has masks: also compare mIoU.",
)
# Engines
@engines.trt_options
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be done, and stop.")
def main(model, onnx_, trt, out, weights, dry_run, **options):
    """Export a trained model to ONNX, TensorRT or a page for browsers, and check that it gives the same masks.

    MODEL is a model.pt, or an image tower as a dense model: open_clip:ARCH/TAG, open_clip:ARCH/FILE or radio:VERSION.
    The exported file and the model get the same photos with two label sets. If they disagree on the label of more than
    0.5 % of the pixels, nothing is written, the message names the first node that differs, and the exit code is 1.

    \b
    Example:
      zeroseg-export model.pt --onnx -o model.onnx --weights float16
      zeroseg-export open_clip:ViT-B-16/openai --onnx -o clip.onnx
      zeroseg-export model.pt --web site
      zeroseg-export model.pt --bundle jetson-orin --precision fp16
      zeroseg-export model.pt --rtx sm86,sm89 --precision fp16
      zeroseg-export model.pt --onnx --precision auto --gate-photos voc-dev --gate-masks voc-dev
    """
    context = click.get_current_context()
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    engine_options = {name: options.pop(name) for name in engines.NAMES}
    web, ort_web = (options.pop(name) for name in page.NAMES)
    kinds = [onnx_, trt, engine_options["rtx"] is not None, engine_options["bundle"] is not None, web is not None]
    if kinds.count(True) != 1:
        raise click.UsageError("expected exactly one of --onnx, --trt, --rtx, --bundle TARGET and --web DIR")
    page.refuse_unused(given)
    if web is not None:
        page.run(model, web, ort_web, {name: options[name] for name in page.CHECKS}, dry_run)
        return
    engines.refuse_unused(model, given)
    if not onnx_:
        engines.run(model, out, engine_options, options, weights == "float16", dry_run)
        return
    out = out or default_output(model, ".onnx")
    if out.suffix != ".onnx":
        raise click.BadParameter(f"expected a name that ends in .onnx, got {out.name}", param_hint="--out")
    if not out.parent.is_dir() or out.is_dir():
        problem = f"{out}: is a folder" if out.is_dir() else f"{out.parent}: no such folder"
        raise click.BadParameter(problem, param_hint="--out")
    if dry_run:
        click.echo(
            f"would export {model} to {out} and {out.with_suffix('.json')}, {options['precision']}, weights as "
            f"{weights}"
        )
        return
    from zeroseg.export.run import ExportOptions, export_file

    atexit.register(gc.freeze)  # Python's last search for garbage, at its end, takes 2 s with PyTorch
    export_file(model, out, ExportOptions(half_weights=weights == "float16", **options), report=click.echo)
    click.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB) and {out.with_suffix('.json')}")


if __name__ == "__main__":
    main()
