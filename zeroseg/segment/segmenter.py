"""Segment an image into labelled masks.

    segmenter = Segmenter.load().set_labels(["cat", "sofa"])
    result = segmenter.segment("photo.jpg")
    result.overlay().save("overlay.png")

The network gives K soft segment maps and K embeddings (encode). Afterwards every embedding is scored against every
label vector (Encoded.masks). The maps are upsampled to the image's size so that they follow the image's edges, and each
pixel goes to the segment with the highest map. Each segment takes its best label if that scores at least the threshold;
otherwise it is background.
"""

import time
from dataclasses import replace
from pathlib import Path

from zeroseg.artifact import read_artifact
from zeroseg.dense.spec import is_dense_name
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.photos.decode import load_image
from zeroseg.pretrained.download import PREFIX
from zeroseg.pretrained.folder import networks_beside
from zeroseg.runtime.base import Runner
from zeroseg.runtime.opening import open_runner
from zeroseg.segment.encode import encode_input
from zeroseg.segment.encoded import Encoded
from zeroseg.segment.labels import label_pack
from zeroseg.segment.prepare import network_input
from zeroseg.segment.segmentation import Segmentation
from zeroseg.sidecar import Sidecar
from zeroseg.words import LabelPack

SHORT_SIDE_MAX = 4096  # px; attention over the patches of such a photo already takes gigabytes


class Segmenter:
    """A model and the labels it looks for. Load once, set labels as often as wanted, segment many images."""

    def __init__(self, runner: Runner, sidecar: Sidecar):
        self.runner = runner
        self.sidecar = sidecar
        self.pack: LabelPack | None = None
        self._file: Path | None = None

    @classmethod
    def load(
        cls, path_or_name=None, backend: str = "auto", threads: int | None = None, short_side: int | None = None
    ) -> "Segmenter":
        """Open a model: a file, the name of a bundled or an open_clip model, or None for the default.

        backend: "auto" follows the kind of file (.onnx onnxruntime, .pt torch). threads: None takes all CPU threads.
        path_or_name may also be a model folder, or hf:owner/name[@revision] on the Hub (docs/hub.md).
        open_clip:ARCH/TAG and open_clip:ARCH/FILE run open_clip's towers without training, radio:VERSION runs RADIO
        (docs/open_clip.md).
        short_side: short side of the network's input in pixels, None for the model's own; smaller is faster and
        coarser. Raises ZerosegError, in one line, if the model cannot be loaded.
        """
        if is_dense_name(path_or_name):
            try:
                from zeroseg.dense.model import open_dense
            except ModuleNotFoundError as error:
                raise missing_extra(error.name, "train", "an open_clip model") from error
            artifact = None
            runner, sidecar = open_dense(path_or_name, backend, threads)
        else:
            artifact = read_artifact(path_or_name, backend)
            runner, sidecar = open_runner(artifact, threads), artifact.sidecar
        segmenter = cls(runner, sidecar if short_side is None else with_short_side(sidecar, short_side))
        segmenter._file = None if artifact is None else artifact.path
        return segmenter

    @classmethod
    def from_pretrained(cls, name, revision: str | None = None, backend: str = "auto", **options) -> "Segmenter":
        """Open a model folder, or a model on the Hub: owner/name, at a branch, tag or commit (docs/hub.md).

        backend, options: as for load(). Raises ZerosegError in one line if it cannot be opened.
        """
        if Path(name).is_dir():
            if revision is not None:
                raise ZerosegError(f"revision {revision!r}: only for models on the Hub, but {name} is a folder")
            return cls.load(name, backend, **options)
        return cls.load(f"{PREFIX}{name}@{revision}" if revision else f"{PREFIX}{name}", backend, **options)

    def save_pretrained(self, folder, onnx=None, **card) -> None:
        """Write a model folder: config.json, the network and README.md, the model card.

        onnx: if this model is a .pt, the .onnx file of the same model, to save both. card: license, datasets, metrics
        and tags for the card's front matter, as in zeroseg.pretrained.saving.CardFields. Raises ZerosegError for an
        engine.
        """
        from zeroseg.pretrained.saving import CardFields, write_folder

        if self._file is None:
            raise ZerosegError("save_pretrained: this model was not loaded from a zeroseg file")
        files = networks_beside(self._file) or [self._file]
        write_folder(Path(folder), [*files, *([] if onnx is None else [Path(onnx)])], CardFields(**card))

    def push_to_hub(self, name: str, revision: str | None = None, private: bool = False, onnx=None, **card) -> str:
        """Upload the folder of save_pretrained() to the Hub as owner/name; return the commit's URL."""
        from tempfile import TemporaryDirectory

        from zeroseg.pretrained.saving import push_folder

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, onnx, **card)
            return push_folder(Path(folder), name, revision, private)

    def set_labels(self, labels, text: str = "auto") -> "Segmenter":
        """Set the labels of segment(): a list of words, a LabelPack, or the path of a labels.npz. Returns self.

        text: source of the vectors, as for zeroseg.segment.labels.label_pack. The model is not loaded again.
        """
        self.pack = self.label_pack(labels, text)
        return self

    def label_pack(self, labels, text: str = "auto") -> LabelPack:
        """The pack of labels in this model's space, for Encoded.masks; see zeroseg.segment.labels.label_pack."""
        return label_pack(labels, self.sidecar, text)

    def encode(self, image, short_side: int | None = None) -> Encoded:
        """Run the network once: a path, a PIL image or an (H, W, 3) uint8 RGB array -> Segments, for any labels
        (Places for a dense model).

        short_side: short side of the network's input for this image in pixels, None for the segmenter's own.
        Raises ZerosegError for a picture that cannot be read.
        """
        sidecar = self.sidecar
        if short_side is not None:
            sidecar = replace(sidecar, input=replace(sidecar.input, short_side=short_side))
        clock = [time.perf_counter()]
        photo = load_image(image)
        clock.append(time.perf_counter())
        prepared = network_input(photo, sidecar)
        clock.append(time.perf_counter())
        timings_ms: dict[str, float] = {}
        encoded = encode_input(
            self.runner, self.sidecar, prepared, size=photo.shape[:2], image=photo, timings_ms=timings_ms
        )
        clock.append(time.perf_counter())
        stages = zip(("load", "preprocess", "network"), clock, clock[1:])
        timings_ms |= {stage: 1000 * (end - start) for stage, start, end in stages}
        return encoded

    def segment(self, image, threshold: float | None = None, edges: bool = True) -> Segmentation:
        """encode() and masks() in a row, with the labels of set_labels().

        threshold, edges: as for Encoded.masks.
        Raises ZerosegError for a picture that cannot be read or a threshold that is no finite number.
        """
        if self.pack is None:
            raise ZerosegError("no labels yet: call set_labels([...]) before segment()")
        return self.encode(image).masks(self.pack, threshold, edges=edges)


def with_short_side(sidecar: Sidecar, short_side: int) -> Sidecar:
    """The sidecar with another input size; the limit of the long side scales with it.

    Raises ZerosegError if the model cannot take it.
    """
    spec = sidecar.input
    least = max(spec.multiple, sidecar.dense.window if sidecar.dense else 0)
    if not least <= short_side <= SHORT_SIDE_MAX:
        raise ZerosegError(f"short side: expected {least} to {SHORT_SIDE_MAX} pixels for this model, got {short_side}")
    longest = round(spec.max_long_side * max(1.0, short_side / spec.short_side))
    return replace(sidecar, input=replace(spec, short_side=short_side, max_long_side=longest))
