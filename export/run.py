"""One export: write a temporary file, compare it with the model, and only then move it into place."""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.export.gate import CachedRunner, Gate, check_masks_file, mask_scorer, photos_of
from zeroseg.export.gate_labels import gate_cases
from zeroseg.export.parity import Parity, network_images
from zeroseg.export.race import race
from zeroseg.export.steps import Steps
from zeroseg.export.tracing_process import traced
from zeroseg.photos.decode import load_image
from zeroseg.runtime.base import IMAGE, Runner
from zeroseg.runtime.opening import open_runner
from zeroseg.sidecar import Sidecar

MASKS_SUFFIX = ".masks.onnx"  # of the self-contained graph beside an export
SAME_MASKS = 0.999  # share of pixels on which the self-contained graph must agree with the host
WARM_UP = 2  # rounds that do not count
WORTH_IT = 1.05  # times as fast as float32, or `auto` keeps float32: below it is noise


@dataclass(frozen=True)
class ExportOptions:
    """The command's options, named as there. gate_masks: the layout of gate_photos if it holds masks, else None."""

    precision: str = "fp32"
    half_weights: bool = False
    masks: bool = False
    symmetric: bool = False
    photos: tuple[Path, ...] = ()
    gate_photos: Path | None = None
    gate_masks: str | None = None
    calibration: Path | None = None
    rounds: int = 15


def export_file(
    model,
    out: Path,
    options: ExportOptions = ExportOptions(),  # noqa: B008 (frozen)
    report: Callable[[str], None] | None = None,
    gate: Gate | None = None,
) -> Parity:
    """Export a model to out (.onnx, and the .json beside it) and return how well it agrees.

    model: the path of a model.pt, an open_clip model's name (zeroseg/dense/spec.py), or a Source that is open already.
    report gets the steps with their times, and the comparison's table (zeroseg/export/steps.py); a Steps does as well,
    and None shows nothing. gate: that of make_gate for these options, if there is one already. ZerosegError when the
    masks are not those of the model; whatever was at `out` before stays as it was.
    """
    with (
        tempfile.TemporaryDirectory(prefix=".zeroseg-export-", dir=out.parent) as folder,
        traced(model, Path(folder) / "traced.onnx") as graph_is_there,
    ):
        return _export(model, out, options, Steps.of(report), gate, Path(folder), graph_is_there)


def _export(model, out, options, steps, gate, folder, graph_is_there) -> Parity:
    """export_file in a folder for temporary files. graph_is_there: of `traced`."""
    try:
        import onnx
        import torch

        from zeroseg.export import to_onnx, variants
        from zeroseg.export.divergence import torch_values
        from zeroseg.export.onnx_file import rename_pair
        from zeroseg.export.source import Source, open_source
    except ModuleNotFoundError as error:
        raise missing_extra(error.name, "export", "exporting") from error
    if isinstance(model, Source):
        source = model
    else:
        with steps.step("loading the model"):
            source = open_source(model)
    check_sidecar_place(out)
    threads = torch.get_num_threads()
    if graph_is_there is not None:
        torch.set_num_threads(max(1, threads - 1))  # the other process has a core
    gate, network = gate or make_gate(source, options, steps), source.network()
    document = to_onnx.described(source.sidecar)
    own = {name: value.numpy() for name, value in network.state_dict().items()} if options.half_weights else None
    with steps.step("tracing the network"):
        import onnxruntime  # noqa: F401 while the other process works

        there = graph_is_there is not None and graph_is_there()
        torch.set_num_threads(threads)
        if there:
            graph = onnx.load(folder / "traced.onnx")
            to_onnx.describe(graph, document)
        else:
            graph = to_onnx.to_onnx(network, document)
    workshop = variants.Workshop(
        graph, document, gate, folder, half_weights=own, symmetric=options.symmetric, steps=steps,
        calibration=calibration_images(source.sidecar, options) if options.precision in ("int8", "auto") else [],
    )  # fmt: skip
    if options.precision == "auto":
        chosen = _fastest(workshop, gate, options.rounds, steps)
    else:
        chosen = workshop.make(options.precision)
        steps(chosen.parity.table() + (f"\n{chosen.note}" if chosen.note else ""))
    if not chosen.parity.telling:
        raise ZerosegError(f"{out}: not written, {chosen.parity.why_not()}")
    if not chosen.parity.ok:
        true = None
        if chosen.precision == "fp32":  # then the export itself is wrong, not what was made of it
            true = torch_values(to_onnx.trace(source.network()), workshop.feed())
        raise variants.refuse(out, chosen, workshop.explain(chosen, true))
    masks = _masks_file(chosen.path, source.sidecar, gate, out, steps) if options.masks else None
    final = folder / out.name
    rename_pair(chosen.path, final)
    for suffix in (".onnx", ".json"):
        os.replace(final.with_suffix(suffix), out.with_suffix(suffix))
    if masks is not None:
        os.replace(masks, masks_path(out))
    return chosen.parity


def masks_path(out: Path) -> Path:
    """Where the self-contained graph of an export to `out` goes: tiny.onnx, tiny.masks.onnx."""
    return out.with_name(out.stem + MASKS_SUFFIX)


def _masks_file(network: Path, sidecar: Sidecar, gate: Gate, out: Path, steps: Steps) -> Path:
    """Write and check the self-contained graph of a network's file beside it. ZerosegError where its masks differ."""
    import onnx

    from zeroseg.export.masks_graph import masks_graph

    path = network.with_name("self-contained.onnx")
    path.write_bytes(masks_graph(onnx.load(network), sidecar).SerializeToString())
    with steps.step("checking the self-contained graph", len(gate.cases), "input") as done:
        share = check_masks_file(path, network, gate.cases, sidecar.scoring, done)
    steps(f"masks of the self-contained graph: the same as zeroseg's on {100 * share:.3f} % of pixels")
    if not share >= SAME_MASKS:
        raise ZerosegError(
            f"{masks_path(out)}: not written, its masks are the same as zeroseg's on only "
            f"{100 * share:.2f} % of pixels, {100 * SAME_MASKS:g} % are required"
        )
    return path


def check_sidecar_place(out: Path) -> None:
    """ZerosegError if a .json that is not a sidecar exists at the path of `out`'s sidecar."""
    path = out.with_suffix(".json")
    if not path.exists():
        return
    try:
        ours = "embedding_space" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise ZerosegError(
            f"--out: the sidecar of {out.name} would replace {path}, which is not a sidecar; choose another name"
        )


def make_gate(source, options: ExportOptions, report: Callable[[str], None] | None = None) -> Gate:
    """The gate for an export of this Source. ZerosegError for options that do not apply to it."""
    sidecar = source.sidecar
    if sidecar.dense is not None and options.masks:
        raise ZerosegError(
            "--masks: not possible for a network without segments, which runs on windows of an image; leave it out"
        )
    if sidecar.dense is not None and options.gate_masks is not None:
        raise ZerosegError(
            "--gate-masks: not possible for a network without segments; --gate-photos alone compares labels"
        )
    steps = Steps.of(report)
    photos = [load_image(photo) for photo in options.photos]
    masks = None
    if options.gate_masks is not None:
        if options.gate_photos is None:
            raise ZerosegError("--gate-masks: needs --gate-photos, the folder with the masks")
        masks = mask_scorer(options.gate_photos, options.gate_masks, sidecar, steps.shown)
    if options.gate_photos is not None or not photos:
        photos += photos_of(options.gate_photos)
    reference = CachedRunner(source.reference)
    return Gate(reference, gate_cases(reference, sidecar, photos, steps), sidecar, masks)


def prepare(model: Path | str, onnx: Path, options: ExportOptions, report: Callable[[str], None] | None = None) -> Gate:
    """Export model to onnx through the gate, unless it is that ONNX file already; the gate for what is made next.

    Its reference is the model in PyTorch, or the ONNX file on the CPU. ZerosegError as for export_file.
    """
    if model == onnx:
        artifact = read_artifact(model)
        return make_gate(_OnnxSource(open_runner(artifact), artifact.sidecar), options, report)
    try:
        from zeroseg.export.source import open_source
    except ModuleNotFoundError as error:
        raise missing_extra(error.name, "export", "exporting") from error
    check_sidecar_place(onnx)
    source, steps = open_source(model), Steps.of(report)
    gate = make_gate(source, options, steps)
    export_file(source, onnx, options, steps, gate)
    return gate


class _OnnxSource(NamedTuple):
    """What make_gate asks of a Source, of an ONNX file."""

    reference: Runner
    sidecar: Sidecar


def calibration_images(sidecar: Sidecar, options: ExportOptions) -> list[np.ndarray]:
    """Photos as the network sees them, (1, 3, h, w) float32 each, and mirrored."""
    images = []
    for seen in network_images(sidecar, photos_of(options.calibration)):
        images += seen.images
        if sidecar.dense is None:
            images += [np.ascontiguousarray(image[..., ::-1]) for image in seen.images]
    return images


def _fastest(workshop, gate: Gate, rounds: int, steps: Steps):
    """The fastest variant on this machine that passes the gate; the table of all goes to report."""
    from zeroseg.export.variants import PRECISIONS

    made, why = {}, {}
    for precision in PRECISIONS:
        try:
            made[precision] = workshop.make(precision)
            why[precision] = "passes" if made[precision].parity.ok else made[precision].parity.why_not()
        except ZerosegError as error:
            why[precision] = str(error)
    runners = {name: open_runner(read_artifact(variant.path)) for name, variant in made.items()}
    image = workshop.feed()[IMAGE]
    calls = {name: lambda r=runner: r.run(image) for name, runner in runners.items()}
    with steps.step("timing the precisions in turns", rounds + WARM_UP, "round") as done:
        laps = race(calls, rounds, WARM_UP, done)
    best = max((n for n in made if made[n].parity.ok), key=lambda n: laps[n].speedup, default="fp32")
    if laps[best].speedup < WORTH_IT:
        best = "fp32"
    lines = [f"{'precision':<10}{'MB':>7}{'same label':>12}{'ms':>9}{'x fp32':>8}  verdict"]
    for name in PRECISIONS:
        if name not in made:
            lines.append(f"{name:<10}{'':>36}  {why[name]}")
            continue
        parity, lap = made[name].parity, laps[name]
        fate = "; kept" if name == best else "; not faster here" if parity.ok else ""
        verdict = why[name] + fate + (f" ({made[name].note})" if made[name].note else "")
        lines.append(
            f"{name:<10}{made[name].path.stat().st_size / 1e6:>7.1f}{100 * parity.agreement:>10.3f} %"
            f"{lap.median_ms:>9.1f}{lap.speedup:>8.2f}  {verdict}"
        )
    lines.append(f"on {runners['fp32'].backend}, one photo; medians of {rounds} rounds in turns")
    steps("\n".join(lines))
    return made[best]
