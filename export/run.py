"""One export from file to file: export, write aside, compare with the model, and only then move into place."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.export.parity import Parity, compare, make_cases
from zeroseg.image import load_image
from zeroseg.runtime.base import open_runner


def export_file(
    model_path: Path, out: Path, *, half_weights: bool = False, photos=(), report: Callable[[str], None] | None = None
) -> Parity:
    """Export model.pt to out (.onnx, and the .json beside it) and return how well it agrees.

    photos are the files to compare on, drawn scenes if there are none; report gets the comparison's table.
    ZerosegError when the two do not agree; whatever was at `out` before stays as it was.
    """
    try:
        from zeroseg.export.to_onnx import to_onnx, write_onnx
        from zeroseg.model import load_model
    except ModuleNotFoundError as error:
        raise missing_extra(error.name, "export", "exporting") from error
    artifact = read_artifact(model_path, "torch")
    model, sidecar = load_model(artifact.path)
    cases = make_cases(artifact.sidecar, [load_image(photo) for photo in photos])
    with tempfile.TemporaryDirectory(prefix=".zeroseg-export-", dir=out.parent) as folder:
        partial = Path(folder) / out.name
        write_onnx(to_onnx(model, sidecar, half_weights=half_weights), partial, sidecar)
        candidate = open_runner(read_artifact(partial))
        parity = compare(open_runner(artifact), candidate, cases, artifact.sidecar.threshold)
        if report is not None:
            report(parity.table())
        if not parity.ok:
            raise ZerosegError(
                f"{out}: not written, the exported file gives the same label to only {100 * parity.agreement:.3f} % of "
                f"pixels, {100 * parity.required:g} % are required"
            )
        for suffix in (".onnx", ".json"):
            os.replace(partial.with_suffix(suffix), out.with_suffix(suffix))
    return parity
