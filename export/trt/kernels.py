"""The kernels that decode masks behind an engine: compiled where Triton is, held against the CPU's where the GPU is."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from zeroseg.artifact import Artifact
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.export.parity import Case
from zeroseg.export.trt.fit import fits
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.runtime.trt_decode import FOLDER, NAMES
from zeroseg.runtime.trt_engine import read_engine
from zeroseg.runtime.trt_runner import TrtRunner

REQUIRED = 0.999  # share of pixels; rounding differs where two segments tie


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
            for b, table in enumerate(_tables(output, file.sidecar.threshold)):
                expected = mask_decode(output["segment_maps"][b], table, case.image.shape[2:])[0]
                shares.append((output["pixel_labels"][b] == expected).mean())
    finally:
        runner.close()
    share = float(np.mean(shares))
    if not share >= REQUIRED:
        raise ZerosegError(f"{name or engine}: its mask_decode plugin gives the CPU's label to only {100 * share:.2f} "
                           "% of pixels; build it with --plugins none")
    report(f"masks decoded inside the engine: the CPU's label on {100 * share:.3f} % of pixels")
    return share


def _tables(output, threshold: float) -> np.ndarray:
    """(B, K) label of every segment, -1 for background."""
    best, which = output["segment_scores"].max(2), output["segment_scores"].argmax(2)
    return np.where(best >= np.float32(threshold), which, -1)


def check_decoding(engine: Path, cases: list[Case], report: Callable[[str], None],
                   name: str | None = None) -> float | None:
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
            output, decoded = runner.run(feed), runner.decode(feed, case.size, file.sidecar.threshold)
            for b, table in enumerate(_tables(output, file.sidecar.threshold)):
                expected = mask_decode(output["segment_maps"][b], table, case.size)[0]
                shares.append((decoded["label_map"][b] == expected).mean())
    finally:
        runner.close()
    share = float(np.mean(shares))
    if not share >= REQUIRED:
        raise ZerosegError(f"{name or engine}: the kernels in {FOLDER}/ give the CPU's label to only "
                           f"{100 * share:.2f} % of pixels; delete {FOLDER}/ to decode masks on the CPU")
    report(f"masks decoded on the GPU: the CPU's label on {100 * share:.3f} % of pixels")
    return share
