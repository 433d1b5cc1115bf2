"""What a street is made of: a Cityscapes network in a .tflite file.

Roads, buildings and things are right in streets only: the network calls a table road. Sky, tree and grass are mostly
right in any photo (docs/experiments.md).
"""

from pathlib import Path

import numpy as np
from PIL import Image

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.files import sha256
from zeroseg.training.teachers.part import Part

FILE = "deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite"
GRID = 48  # cells per side of the cached labels, over the whole photo
NOTHING = 255  # label of cells without one

# Cityscapes' train ids and what each is called here.
NAMES = (
    "road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,tree,grass,sky,person,rider,car,truck,bus,train,"
    "motorcycle,bicycle"
).split(",")


class Streets(Part):
    """Array label (GRID, GRID) uint8: Cityscapes' train id of each cell, or NOTHING.

    folders  first parts of the names (paths) of photos that are streets: all labels count in them.
    stuff    names of NAMES that count in every photo. ZerosegError for another name.
    """

    name = "streets"

    def __init__(self, folder, folders: tuple[str, ...], stuff: tuple[str, ...] = ()):
        import threading

        self.stuff = stuff_ids(stuff)

        path = Path(folder) / FILE
        if not path.is_file():
            raise ZerosegError(f"teachers: {path} is missing; give the folder with it as --helper-weights")
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ModuleNotFoundError as error:
            raise UnavailableError(
                "teachers: streets need a reader of .tflite files; pip install ai-edge-litert, or set parts.streets=[]"
            ) from error
        self.folders = folders
        self._interpreter = Interpreter(str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._lock = threading.Lock()  # an interpreter has one set of buffers
        self.arrays = {"label": ((GRID, GRID), "uint8")}
        self.fingerprint = {"file": sha256(path), "folders": list(folders)} | ({"stuff": list(stuff)} if stuff else {})

    def compute(self, image: Image.Image, photo_name: str, found) -> dict[str, np.ndarray]:
        street = photo_name.startswith(self.folders)
        if not street and not len(self.stuff):
            return {"label": np.full((GRID, GRID), NOTHING, np.uint8)}
        [given], [result] = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        _, height, width, _ = given["shape"]
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))[None]
        with self._lock:
            self._interpreter.set_tensor(given["index"], pixels)
            self._interpreter.invoke()
            labels = self._interpreter.get_tensor(result["index"])[0]
        label = most_common(labels, GRID)
        return {"label": label if street else np.where(np.isin(label, self.stuff), label, NOTHING).astype(np.uint8)}


def stuff_ids(names: tuple[str, ...]) -> list[int]:
    """The train ids of names. ZerosegError for one that the network does not know."""
    if unknown := [name for name in names if name not in NAMES]:
        raise ZerosegError(f"parts.stuff: expected some of {', '.join(NAMES)}, got {unknown[0]!r}")
    return [NAMES.index(name) for name in names]


def most_common(labels: np.ndarray, grid: int) -> np.ndarray:
    """The label that fills most of each cell of a grid: labels (H, W) integers 0 ... 18 -> (grid, grid) uint8."""
    rows = np.minimum(np.arange(labels.shape[0]) * grid // labels.shape[0], grid - 1)
    columns = np.minimum(np.arange(labels.shape[1]) * grid // labels.shape[1], grid - 1)
    cell = rows[:, None] * grid + columns[None]
    counts = np.zeros((grid * grid, len(NAMES)), np.int64)
    np.add.at(counts, (cell.ravel(), labels.ravel()), 1)
    return counts.argmax(axis=1).reshape(grid, grid).astype(np.uint8)
