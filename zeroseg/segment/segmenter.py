"""An image in, named masks out.

    segmenter = Segmenter.load().set_labels(["cat", "sofa"])
    result = segmenter.segment("photo.jpg")
    result.overlay().save("overlay.png")

The network gives K soft segment maps and K embeddings (encode). Every embedding is scored against every label vector
afterwards (Encoded.masks). Each pixel goes to the segment whose map is highest there, brought to the image's size so
that it follows the image's edges; each segment takes its best label if that scores at least the threshold, else it is
background.
"""

import time
from dataclasses import replace

from zeroseg.artifact import read_artifact
from zeroseg.dense.spec import is_dense_name
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.photos.decode import load_image
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

    @classmethod
    def load(
        cls, path_or_name=None, backend: str = "auto", threads: int | None = None, short_side: int | None = None
    ) -> "Segmenter":
        """Open a model: a file, the name of a bundled one, an open_clip model's, or None for the default.

        backend "auto" goes by the kind of file (.onnx onnxruntime, .pt torch); threads None takes all CPU threads.
        open_clip:ARCH/TAG and open_clip:ARCH/FILE run open_clip's towers without training (docs/open_clip.md).
        short_side: pixels of an image's short side at the network, None for the model's own; less is faster and
        coarser. Raises ZerosegError in one line when it cannot.
        """
        if is_dense_name(path_or_name):
            try:
                from zeroseg.dense.model import open_dense
            except ModuleNotFoundError as error:
                raise missing_extra(error.name, "train", "an open_clip model") from error
            runner, sidecar = open_dense(path_or_name, backend, threads)
        else:
            artifact = read_artifact(path_or_name, backend)
            runner, sidecar = open_runner(artifact, threads), artifact.sidecar
        return cls(runner, sidecar if short_side is None else with_short_side(sidecar, short_side))

    def set_labels(self, labels, text: str = "auto") -> "Segmenter":
        """Say what segment() looks for: a list of words, a LabelPack, or the path of a labels.npz; returns self.

        text: what turns words into vectors, as for zeroseg.segment.labels.label_pack. Costs no reload.
        """
        self.pack = self.label_pack(labels, text)
        return self

    def label_pack(self, labels, text: str = "auto") -> LabelPack:
        """The pack of labels in this model's space, for Encoded.masks; see zeroseg.segment.labels.label_pack."""
        return label_pack(labels, self.sidecar, text)

    def encode(self, image, short_side: int | None = None) -> Encoded:
        """Run the network once: a path, a PIL image or an (H, W, 3) uint8 RGB array -> Segments, which any words can be
        held against (Places for a dense model).

        short_side: pixels at the network for this image, None for the segmenter's own.
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
    """The sidecar with another size of images at the network; the cap of the long side grows along.

    ZerosegError where the model cannot take it.
    """
    spec = sidecar.input
    least = max(spec.multiple, sidecar.dense.window if sidecar.dense else 0)
    if not least <= short_side <= SHORT_SIDE_MAX:
        raise ZerosegError(f"short side: expected {least} to {SHORT_SIDE_MAX} pixels for this model, got {short_side}")
    longest = round(spec.max_long_side * max(1.0, short_side / spec.short_side))
    return replace(sidecar, input=replace(spec, short_side=short_side, max_long_side=longest))
