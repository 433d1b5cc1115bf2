"""The part of zeroseg-export that makes engines and bundles: its options and their actions."""

from pathlib import Path

import click

from zeroseg.dense.spec import default_output

TARGET_NAMES = ("jetson-orin", "jetson-orin-nano", "jetson-thor", "datacenter")
LEAST_LABELS = 2  # with one alone, masks could not be told apart when the engine is compared
NAMES = (
    "rtx",
    "bundle",
    "labels",
    "layers",
    "max_batch",
    "workspace_mib",
    "timing_cache",
    "version_compatible",
    "hardware_compatible",
    "plugins",
)


def trt_options(command):
    """Add the options named in NAMES to a click command."""
    options = [
        click.option(
            "--rtx",
            is_flag=False,
            flag_value="portable",
            metavar="[LIST]",
            help="Build an engine of TensorRT for RTX (.rtx, .rtx.json). No GPU is needed. LIST has compute "
            "capabilities, such as sm86,sm89; without LIST, the engine runs on all RTX GPUs from Ampere "
            "on.",
        ),
        click.option(
            "--bundle",
            type=click.Choice(TARGET_NAMES),
            metavar="TARGET",
            help=f"Make a folder that builds the engine on the device: {', '.join(TARGET_NAMES)}.",
        ),
        click.option(
            "--labels",
            metavar="WORDS|FILE",
            help="For --bundle: the words of its label pack, as a list with commas, or a labels.npz.  "
            "[default: twelve everyday words]",
        ),
        click.option(
            "--layers",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="For --rtx: write a table of the engine's layers with their precisions and shapes.",
        ),
        click.option(
            "--max-batch",
            type=click.IntRange(1),
            metavar="N",
            help="Largest batch of an engine.  [default: 1; datacenter: 8]",
        ),
        click.option(
            "--workspace-mib",
            type=click.IntRange(1),
            default=1024,
            show_default=True,
            metavar="MIB",
            help="Memory that TensorRT may use for one layer.",
        ),
        click.option(
            "--timing-cache",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="File that keeps TensorRT's timings, so that later builds are faster.",
        ),
        click.option(
            "--version-compatible",
            is_flag=True,
            help="Let later TensorRT versions of the same major version load the engine.",
        ),
        click.option(
            "--hardware-compatible", is_flag=True, help="Let other GPUs from Ampere on load the engine (not on Jetson)."
        ),
        click.option(
            "--plugins",
            type=click.Choice(("aot", "v3", "none")),
            default="none",
            show_default=True,
            help="Put zeroseg's kernels into the engine: aot, compiled by Triton (TensorRT 10.9 on); v3, from "
            "the C++ library, which must then be loaded.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def refuse_unused(model: Path | str, given: set[str]) -> None:
    """Raise UsageError if an option was given, by name, that would do nothing."""
    if "onnx_" in given:
        unused, why = set(NAMES), "is for engines, with --trt, --rtx or --bundle"
    elif "layers" in given and "rtx" not in given:
        unused, why = {"layers"}, "is for --rtx"
    else:
        unused, why = set() if "bundle" in given else {"labels"}, "is for --bundle"
        if Path(model).suffix == ".onnx" and not unused & given:
            unused = {"precision", "weights", "calibration", "symmetric"} | (
                {"gate_masks"} if "bundle" in given else set()
            )
            why = f"has no effect: {Path(model).name} is used as it is; only a model.pt is exported"
    for name in sorted(unused & given):
        raise click.UsageError(f"--{name.replace('_', '-')}: {why}; leave it out")


def run(model: Path | str, out: Path | None, trt: dict, export: dict, half_weights: bool, dry_run: bool) -> None:
    """trt: the values of NAMES; export: those of ExportOptions. Raises ZerosegError in one line."""
    from zeroseg.errors import ZerosegError
    from zeroseg.export.trt.builder import BuildOptions
    from zeroseg.export.trt.serving import MAX_BATCH

    target, labels = trt["bundle"], trt["labels"]
    many = MAX_BATCH if target == "datacenter" else 1
    own = {name: trt[name] for name in NAMES[4:]} | {"max_batch": trt["max_batch"] or many}
    if trt["rtx"] is not None:
        from zeroseg.export.trt.rtx import read_capabilities

        own["capabilities"] = read_capabilities(trt["rtx"])
    options = BuildOptions(**own)
    if export["precision"] == "auto":
        raise ZerosegError(
            "--precision auto: measures ONNX Runtime on this machine, not TensorRT; give fp32, fp16 or int8"
        )
    if export["masks"]:
        raise ZerosegError("--masks: engines give segment maps and embeddings; leave it out")
    if target is not None and options.plugins != "none":
        raise ZerosegError(
            f"--plugins {options.plugins}: only together with --trt, on the machine that runs the "
            "engine; bundles hold the plain graph"
        )
    export = {**export, "symmetric": export["symmetric"] or export["precision"] == "int8"}
    if trt["rtx"] is not None:
        _run_rtx(model, out, options, trt["layers"], export, half_weights, dry_run)
    elif target is None:
        _run_engine(model, out, options, export, half_weights, dry_run)
    else:
        _run_bundle(model, out, target, labels, options, export, half_weights, dry_run)


def _run_engine(model, out, options, export, half_weights, dry_run) -> None:
    from zeroseg.errors import UnavailableError
    from zeroseg.export.run import ExportOptions, prepare
    from zeroseg.export.trt.build import build_engine, why_not
    from zeroseg.export.trt.builder import read_timing_cache
    from zeroseg.export.trt.manifest import check_suffix, rebuild_command
    from zeroseg.runtime.trt_plugins import LIBRARY, VARIABLE

    out = out or default_output(model, ".engine")
    check_suffix(out)
    read_timing_cache(options.timing_cache)  # before the minutes that a build takes
    onnx = model if Path(model).suffix == ".onnx" else out.with_suffix(".onnx")
    if dry_run:
        click.echo(
            f"would export {model} to {onnx} and build {out} and {out.name}.json from it"
            if onnx != model
            else f"would build {out} and {out.name}.json from {onnx}"
        )
        return
    if (reason := why_not()) is not None:
        raise UnavailableError(
            f"--trt: {reason}; zeroseg-export --bundle TARGET makes a folder that builds the engine on the device"
        )
    gate = prepare(model, onnx, ExportOptions(half_weights=half_weights, **export), click.echo)
    file = build_engine(
        onnx,
        out,
        options,
        gate.reference.runner,
        gate.cases,
        rebuild=rebuild_command(onnx, out, options),
        masks=gate.masks,
        report=click.echo,
    )
    if options.plugins == "v3":
        click.echo(
            f"{out.name} calls {LIBRARY}: a program must load that library before the engine; zeroseg "
            f"looks for it beside the engine and in {VARIABLE}"
        )
    click.echo(
        f"wrote {out} ({file.manifest.size_bytes / 1e6:.1f} MB) and {out.name}.json: {file.manifest.precision}, "
        f"{file.manifest.gpu}, TensorRT {file.manifest.tensorrt}"
    )


def _run_rtx(model, out, options, layers, export, half_weights, dry_run) -> None:
    from zeroseg.export.trt.manifest import check_suffix
    from zeroseg.export.trt.rtx import build_rtx, refuse_options
    from zeroseg.runtime.rtx_library import load_rtx
    from zeroseg.runtime.trt_engine import RTX_SUFFIX
    from zeroseg.runtime.trt_plugins import LIBRARY, VARIABLE

    out = out or default_output(model, RTX_SUFFIX)
    check_suffix(out, RTX_SUFFIX)
    is_onnx = Path(model).suffix == ".onnx"
    refuse_options(options, "as it is" if is_onnx else export["precision"])
    onnx = model if is_onnx else out.with_suffix(".onnx")
    if dry_run:
        click.echo(
            f"would {'' if is_onnx else f'export {model} to {onnx} and '}build {out} and {out.name}.json from {onnx}"
        )
        return
    load_rtx("--rtx")  # before the export
    if not is_onnx:
        from zeroseg.export.run import ExportOptions, export_file

        export_file(model, onnx, ExportOptions(half_weights=half_weights, **export), report=click.echo)
    file = build_rtx(onnx, out, options, layers=layers, report=click.echo)
    manifest = file.manifest
    if options.plugins == "v3":
        click.echo(f"{out.name} calls {LIBRARY}; zeroseg looks for it beside the engine and in {VARIABLE}")
    click.echo(
        f"wrote {out} ({manifest.size_bytes / 1e6:.1f} MB) and {out.name}.json in "
        f"{manifest.build_seconds:.1f} s: {manifest.precision}, for "
        f"{', '.join(options.capabilities) or 'RTX GPUs from Ampere on'}, TensorRT for RTX "
        f"{manifest.tensorrt}; weights {_mb(manifest.weights_bytes)}, activations up to "
        f"{_mb(manifest.activation_bytes)} of GPU memory. The engine was built but not run: that "
        "needs an RTX GPU"
    )


def _mb(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:.1f} MB"


def _run_bundle(model, out, target, labels, options, export, half_weights, dry_run) -> None:
    from zeroseg.export.trt.bundle import make_bundle

    base = default_output(model, ".onnx")
    out = out or base.with_name(f"{base.stem}-{target}")
    if dry_run:
        click.echo(f"would export {model} and put what {target} needs into {out}")
        return
    make_bundle(model, out, target, labels, options, export, half_weights, click.echo)
