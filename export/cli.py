"""zeroseg-export: a model.pt in, what a machine runs out, after it was shown to be the same model."""

from pathlib import Path

import click

from zeroseg.cli import Command

TRT_LATER = "--trt: needs TensorRT and is not built yet; use --onnx and build an engine from that file with trtexec"


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="MODEL.PT")
# What to make
@click.option("--onnx", "onnx_", is_flag=True, help="Write an ONNX file and its description (.json).")
@click.option("--trt", is_flag=True, help="Build a TensorRT engine.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Where to write.  [default: MODEL with the suffix .onnx]")
@click.option("--weights", type=click.Choice(["float32", "float16"]), default="float32", show_default=True,
              help="How weights are stored; computing is float32 either way, float16 halves the file.")
# How it is checked
@click.option("--photo", "photos", type=click.Path(exists=True, dir_okay=False, path_type=Path), multiple=True,
              metavar="FILE", help="Compare on this photo; may be repeated.  [default: drawn scenes]")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be done.")
def main(model, onnx_, trt, out, weights, photos, dry_run):
    """Turn a trained model into an ONNX file.

    The exported file and the model see the same pictures with two label sets; unless they give the same label to at
    least 99.5 % of all pixels, nothing is written and the exit code is 1.

    \b
    Example:
      zeroseg-export model.pt --onnx -o model.onnx --weights float16
    """
    if trt:
        raise click.ClickException(TRT_LATER)
    if not onnx_:
        raise click.UsageError("say what to make: --onnx")
    out = out or model.with_suffix(".onnx")
    if out.suffix != ".onnx":
        raise click.BadParameter(f"expected a name that ends in .onnx, got {out.name}", param_hint="--out")
    if not out.parent.is_dir():
        raise click.BadParameter(f"{out.parent}: no such folder", param_hint="--out")
    if dry_run:
        click.echo(f"would export {model} to {out} and {out.with_suffix('.json')}, weights as {weights}")
        return
    from zeroseg.export.run import export_file

    export_file(model, out, half_weights=weights == "float16", photos=photos, report=click.echo)
    click.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB) and {out.with_suffix('.json')}")


if __name__ == "__main__":
    main()
