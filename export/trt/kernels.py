"""The kernels that decode masks behind an engine: compiled where Triton is, held against the CPU's where the GPU is."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from zeroseg.artifact import Artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.export.parity import Case, segment_table
from zeroseg.export.trt.fit import fits
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.runtime.trt_decode import FOLDER, NAMES
from zeroseg.runtime.trt_engine import read_engine
from zeroseg.runtime.trt_runner import TrtRunner

REQUIRED = 0.999  # share of pixels; rounding differs where two segments tie
SURE = 1e-3  # of a confidence; sums of four products in float32 differ by less than 1e-6


def compile_kernels(folder: Path, sms: Iterable[int], report: Callable[[str], None]) -> bool:
    """Write folder/kernels/sm_XX for every architecture; without Triton nothing is written and report told why."""
    try:
        from zeroseg.kernels.aot import choose_entries, compile_target, find_target

        for sm in sms:
            compile_target(find_target(f"sm_{sm}"), folder / FOLDER / f"sm_{sm}", choose_entries(",".join(NAMES)))
    except (ImportError, UnavailableError, ZerosegError) as error:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        report(f"no GPU kernels were compiled ({error}); without them masks are decoded on the CPU")
        return False
    for path in (folder / FOLDER).rglob("*.ptx"):
        path.unlink()  # the cubin is what runs
    return True


def check_pixels(engine: Path, cases: list[Case], report: Callable[[str], None], name: str | None = None) -> float:
    """Share of pixels of the network's input where the plugin in the engine gives the CPU's label.

    name is the engine's in messages, if not the file's.
    ZerosegError when it is below REQUIRED.
    """
    file = read_engine(engine)
    runner = TrtRunner(Artifact(engine, file.sidecar, TrtRunner.backend))
    try:
        shares = []
        for case in cases:
            if not fits(case, file):
                continue
            output = runner.run_pixels({"image": case.image, "label_embeddings": case.label_embeddings})
            shares.append(_share(output, output["pixel_labels"], output["pixel_confidence"], file.sidecar.threshold))
    finally:
        runner.close()
    share = float(np.mean(shares))
    if not share >= REQUIRED:
        raise ZerosegError(
            f"{name or engine}: its mask_decode plugin gives the CPU's label to only {100 * share:.2f} "
            "% of pixels; build it with --plugins none"
        )
    report(f"masks decoded inside the engine: the CPU's label on {100 * share:.3f} % of pixels")
    return share


def _share(output, labels: np.ndarray, confidence: np.ndarray, floor: float) -> float:
    """Share of pixels of labels and confidence (B, H, W) that are what the CPU makes of the network's output."""
    same = []
    for maps, scores, label_map, sure in zip(
        output["segment_maps"], output["segment_scores"], labels, confidence, strict=True
    ):
        expected = mask_decode(maps, segment_table(scores, floor), label_map.shape)
        same.append(((label_map == expected[0]) & (np.abs(sure - expected[1]) <= SURE)).mean())
    return float(np.mean(same))


def check_decoding(
    engine: Path, cases: list[Case], report: Callable[[str], None], name: str | None = None
) -> float | None:
    """Share of pixels with the same label whether the masks are decoded on the GPU or the CPU; None without kernels.

    name is the engine's in messages, if not the file's.
    ZerosegError when it is below REQUIRED.
    """
    file = read_engine(engine)
    runner = TrtRunner(Artifact(engine, file.sidecar, TrtRunner.backend))
    try:
        if not runner.can_decode:
            return None
        shares = []
        for case in cases:
            if not fits(case, file):
                continue
            feed = {"image": case.image, "label_embeddings": case.label_embeddings}
            output = runner.run(feed)
            for floor in (-np.inf, file.sidecar.threshold):
                decoded = runner.decode(feed, case.size, floor)
                shares.append(_share(output, decoded["label_map"], decoded["confidence"], floor))
    finally:
        runner.close()
    share = float(np.mean(shares))
    if not share >= REQUIRED:
        raise ZerosegError(
            f"{name or engine}: the kernels in {FOLDER}/ give the CPU's label to only "
            f"{100 * share:.2f} % of pixels; delete {FOLDER}/ to decode masks on the CPU"
        )
    report(f"masks decoded on the GPU: the CPU's label on {100 * share:.3f} % of pixels")
    return share
