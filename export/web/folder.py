"""Write the folder of the page: its files, onnxruntime-web, the network with 8-bit weights, and the word table."""

import json
import shutil
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np

import zeroseg
from zeroseg.artifact import read_artifact
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.export.run import ExportOptions, prepare
from zeroseg.export.steps import Steps
from zeroseg.export.web.runtime import PACKAGE, runtime_files
from zeroseg.files import make_folder
from zeroseg.photos.network_size import network_size
from zeroseg.runtime.base import IMAGE, OUTPUTS, Runner
from zeroseg.runtime.opening import open_runner
from zeroseg.sidecar import Sidecar
from zeroseg.words import SPACE

PAGE = Path(__file__).resolve().parent / "page"
STYLE = "page.css"  # the live page's
MODEL, DESCRIPTION, CHECK, WORDS, SYMBOLS = "model.onnx", "model.json", "check.json", "words.npz", "symbols.json"
SPARE_BYTES = 500_000  # for the weights whose rounding would change the maps most
_TRIED = 4  # inputs of the gate that tell which these are
_EMOJI = ((0x2600, 0x27BF), (0x2B00, 0x2BFF), (0x1F300, 0x1FAFF))  # ranges of code points
_TERMS = f"""The page and its model are part of zeroseg, under the Apache License 2.0:
https://www.apache.org/licenses/LICENSE-2.0

ort/ is of {PACKAGE}, renamed, under the MIT License:

Copyright (c) Microsoft Corporation. All rights reserved.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def write_page(
    model: Path,
    out: Path,
    ort_web: Path | None = None,
    options: ExportOptions = ExportOptions(half_weights=True),  # noqa: B008 (frozen)
    report: Callable[[str], None] | None = None,
) -> int:
    """Write the page for a model.pt or .onnx into the folder out, and return the bytes of all its files.

    ort_web: onnxruntime-web as a tarball or folder; None fetches it (zeroseg/export/web/runtime.py). options: of the
    export and of the gate, which compares the network with 8-bit weights with the model. Raises ZerosegError where its
    masks differ, for a model that the page cannot run, and for a folder that holds anything else; then nothing is
    written.
    """
    refuse_other_folder(out)
    _refuse_other_model(read_artifact(model).sidecar)
    steps = Steps.of(report)
    runtime = runtime_files(ort_web, steps)
    make_folder(out.parent, "--web")
    with tempfile.TemporaryDirectory(prefix=".zeroseg-web-", dir=out.parent) as folder:
        staged = Path(folder) / "page"
        (staged / "ort").mkdir(parents=True)
        for name, data in runtime.items():
            (staged / "ort" / name).write_bytes(data)
        onnx = model if model.suffix == ".onnx" else Path(folder) / "exported.onnx"
        gate = prepare(model, onnx, options, steps)
        runner = _write_network(onnx, staged / MODEL, gate, steps)
        document = json.loads((staged / DESCRIPTION).read_text(encoding="utf-8"))
        _write_json(staged / DESCRIPTION, {key: value for key, value in document.items() if key != "card"})
        _write_json(staged / CHECK, check_values(runner, gate.sidecar))
        _write_json(staged / SYMBOLS, emoji_names())
        (staged / WORDS).write_bytes(files("zeroseg").joinpath("bundled", WORDS).read_bytes())
        (staged / STYLE).write_bytes(files("zeroseg.live").joinpath("page", STYLE).read_bytes())
        for file in PAGE.iterdir():
            shutil.copyfile(file, staged / file.name)
        (staged / "NOTICE.txt").write_text(_TERMS + _notice(), encoding="utf-8")
        make_folder(out, "--web")
        for file in sorted(staged.rglob("*")):
            target = out / file.relative_to(staged)
            target.mkdir(exist_ok=True) if file.is_dir() else file.replace(target)
    return sum(file.stat().st_size for file in out.rglob("*") if file.is_file())


def refuse_other_folder(out: Path) -> None:
    """ZerosegError unless the folder is missing, empty, or a page of zeroseg."""
    if out.exists() and not out.is_dir():
        raise ZerosegError(f"--web {out}: is a file, expected a folder")
    ours = {path.name for path in PAGE.iterdir()} | {MODEL, DESCRIPTION}
    if out.is_dir() and any(out.iterdir()) and not all((out / name).is_file() for name in ours):
        raise ZerosegError(f"--web {out}: holds something else than a page of zeroseg; choose another folder")


def _refuse_other_model(sidecar: Sidecar) -> None:
    if sidecar.dense is not None or sidecar.embedding_space != SPACE:
        kind = "has no segments" if sidecar.dense is not None else f"has the space {sidecar.embedding_space}"
        raise ZerosegError(
            f"--web: model {sidecar.name} {kind}; the page needs a network with segments in the space of the bundled "
            f"word table, {SPACE}"
        )


def _write_network(source: Path, path: Path, gate, steps: Steps) -> Runner:
    """Write the network with 8-bit weights and its sidecar, and return it open. ZerosegError if the gate fails."""
    try:
        import onnx

        from zeroseg.export.block_weights import fragile_weights, store_weights_in_blocks
        from zeroseg.export.onnx_file import check, write_onnx
    except ModuleNotFoundError as error:
        raise missing_extra(error.name, "export", "--web") from error
    graph = onnx.load(source)
    feeds = [{IMAGE: case.image[:1]} for case in gate.cases[:_TRIED]]
    with steps.step("choosing the weights that stay as they are"):
        graph = store_weights_in_blocks(graph, fragile_weights(graph, feeds, OUTPUTS[0], SPARE_BYTES))
    check(graph)
    write_onnx(graph, path, {**replace(gate.sidecar, files={}).to_dict(), "precision": "fp32, weights int8"})
    runner = open_runner(read_artifact(path))
    with steps.step("comparing the network with 8-bit weights with the model", len(gate.cases), "input") as done:
        parity = gate.check(runner, done)
    steps(parity.table())
    if not parity.telling or not parity.ok:
        raise ZerosegError(f"--web: not written, {parity.why_not()}")
    return runner


def check_values(runner: Runner, sidecar: Sidecar) -> dict:
    """What the page compares its own first run with: {"size": [h, w], "image_embedding": D numbers} for the input
    whose i-th number is (7919 i mod 256) / 127.5 - 1.
    """
    spec = sidecar.input
    height, width = network_size((3, 4), spec.short_side, spec.max_long_side, spec.multiple)
    numbers = np.arange(3 * height * width, dtype=np.int64) * 7919 % 256
    image = (numbers / 127.5 - 1).astype(np.float32).reshape(1, 3, height, width)
    embedding = runner.run(image)["image_embedding"][0]
    return {"size": [height, width], "image_embedding": [round(float(value), 7) for value in embedding]}


def emoji_names() -> dict[str, str]:
    """Emoji -> name in lower case, for zeroseg.words.spelling.clean, as JavaScript has no names of characters."""
    characters = (chr(code) for first, last in _EMOJI for code in range(first, last + 1))
    return {
        character: unicodedata.name(character, "").lower()
        for character in characters
        if unicodedata.category(character) in ("So", "Sk")
    }


def _notice() -> str:
    """The NOTICE of zeroseg, of the checkout or the installed distribution."""
    from importlib.metadata import PackageNotFoundError, distribution

    file = Path(zeroseg.__file__).resolve().parents[1] / "NOTICE"
    if file.is_file():
        return "\n" + file.read_text(encoding="utf-8")
    try:
        return "\n" + (distribution("zeroseg").read_text("licenses/NOTICE") or "")
    except PackageNotFoundError:
        return ""


def _write_json(path: Path, document) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
