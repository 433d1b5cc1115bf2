"""Copy the package's code into a bundle, for the device and the inference server."""

import shutil
from pathlib import Path

import zeroseg

SUBPACKAGES = ("kernels", "export")


def copy_code(folder: Path) -> None:
    """The package as a wheel would lay it out, sources only."""

    def copy(source: Path, target: Path) -> None:
        for path in source.rglob("*.py"):
            relative = path.relative_to(source)
            if not set(relative.parts) & {"bundled", "__pycache__", "model", "evaluation"}:
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / relative)

    copy(Path(zeroseg.__file__).parent, folder)
    for name in SUBPACKAGES:
        [root] = {Path(path) for path in __import__(f"zeroseg.{name}", fromlist=["x"]).__path__}
        copy(root, folder / name)
