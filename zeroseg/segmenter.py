"""A photo in, named masks out.

    segmenter = Segmenter.load().set_labels(["cat", "sofa"])
    result = segmenter.segment("photo.jpg")
    result.overlay().save("overlay.png")

The network gives K soft segment maps and every segment's score for every label. Each pixel goes to the segment whose
map is highest there, brought to the photo's size so that it follows the photo's edges; each segment takes its best
label if that scores at least the threshold, else it is background.
"""

import math
import os
import time
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from zeroseg.artifact import Sidecar, read_artifact
from zeroseg.dense.spec import is_dense_name
from zeroseg.errors import UnavailableError, ZerosegError, missing_extra
from zeroseg.image import load_image, network_size
from zeroseg.kernels.mask_decode import mask_decode
from zeroseg.kernels.preprocess import preprocess
from zeroseg.runtime.base import Runner, open_runner
from zeroseg.segmentation import Segmentation

if TYPE_CHECKING:
    from zeroseg.words import LabelPack

SHORT_SIDE_MAX = 4096  # px; attention over the patches of such a photo already takes gigabytes


class Segmenter:
    """A model and the labels it looks for. Load once, set labels as often as wanted, segment many photos."""

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
        short_side: pixels of a photo's short side at the network, None for the model's own; less is faster and coarser.
        Raises ZerosegError in one line when it cannot.
        """
        if is_dense_name(path_or_name):
            try:
                from zeroseg.dense.model import open_dense
            except ModuleNotFoundError as error:
                raise missing_extra(error.name, "train", "an open_clip model") from error
            return cls(*open_dense(path_or_name, backend, threads))._seeing(short_side)
        artifact = read_artifact(path_or_name, backend)
        return cls(open_runner(artifact, threads), artifact.sidecar)._seeing(short_side)

    def _seeing(self, short_side: int | None) -> "Segmenter":
        """Self, with another size of photos at the network unless None; the cap of the long side grows along."""
        if short_side is not None:
            spec, least = (
                self.sidecar.input,
                max(self.sidecar.input.multiple, self.sidecar.dense.window if self.sidecar.dense else 0),
            )
            if not least <= short_side <= SHORT_SIDE_MAX:
                raise ZerosegError(
                    f"short side: expected {least} to {SHORT_SIDE_MAX} pixels for this model, got {short_side}"
                )
            longest = round(spec.max_long_side * max(1.0, short_side / spec.short_side))
            spec = replace(spec, short_side=short_side, max_long_side=longest)
            self.sidecar = replace(self.sidecar, input=spec)
        return self

    def set_labels(self, labels, text: str = "auto") -> "Segmenter":
        """Say what to look for: a list of words, a LabelPack, or the path of a labels.npz; returns self.

        text names what turns words into vectors, as for zeroseg.embed_labels; for an open_clip model "auto" is its own
        text tower. A labels.npz gives the words that are in it, which needs neither a tower nor torch. Changing labels
        costs no reload.
        """
        from zeroseg.words import LabelPack, embed_labels

        if isinstance(labels, (str, os.PathLike)):
            if not str(labels).endswith(".npz"):
                raise ZerosegError(f"labels: expected a list of words or a labels.npz, got {str(labels)!r}")
            pack = LabelPack.load(labels)
        elif isinstance(labels, LabelPack):
            pack = labels
        else:
            try:
                names = list(dict.fromkeys(labels))  # a word named twice is looked for once
            except TypeError:
                raise ZerosegError(f"labels: expected a list of words, got {labels!r}") from None
            if str(text).endswith(".npz"):
                pack = LabelPack.load(text).pick(names)
            elif self.sidecar.dense is not None and text == "auto":
                pack = LabelPack(names, self._own_text_vectors(names), self.sidecar.embedding_space)
            else:
                vectors, known, nearest = embed_labels(names, text=text)
                pack = LabelPack(names=names, vectors=vectors, known=known, nearest=nearest)
        pack.require(self.sidecar.embedding_space, self.sidecar.embedding_dim)
        self.pack = pack
        return self

    def segment(self, image, threshold: float | None = None, edges: bool = True) -> Segmentation:
        """Segment one picture: a path, a PIL image or an (H, W, 3) uint8 RGB array.

        threshold replaces the model's own: segments whose best label scores below it become background.
        edges: whether masks follow the photo's edges, or are the maps' bilinear enlargement. open_clip models and
        engines that decode themselves know the latter only.
        Raises ZerosegError for a picture that cannot be read or a threshold that is no finite number.
        """
        if self.pack is None:
            raise ZerosegError("no labels yet: call set_labels([...]) before segment()")
        pack = self.pack
        threshold = self.sidecar.threshold if threshold is None else threshold
        if not isinstance(threshold, Real) or not math.isfinite(threshold):
            raise ZerosegError(f"threshold: expected a finite number, got {threshold!r}")
        clock = [time.perf_counter()]
        photo = load_image(image)
        clock.append(time.perf_counter())
        if self.sidecar.dense is not None:
            from zeroseg.dense.segment import segment_dense

            return segment_dense(self.runner, self.sidecar, pack, photo, threshold, 1000 * (clock[1] - clock[0]))
        spec = self.sidecar.input
        size = network_size(photo.shape[:2], spec.short_side, spec.max_long_side, spec.multiple)
        tensor = preprocess(photo, size, spec.mean, spec.std)
        clock.append(time.perf_counter())
        feed = {"image": tensor[None], "label_embeddings": pack.vectors}
        if self.runner.can_decode:
            output = self.runner.decode(feed, photo.shape[:2], threshold)
        else:
            output = self.runner.run(feed)
        clock.append(time.perf_counter())
        segment_scores = output["segment_scores"][0]
        if not np.isfinite(segment_scores).all():
            raise ZerosegError(f"model {self.sidecar.name} gave scores that are not finite; the file may be damaged")
        if self.runner.can_decode:
            table = output["segment_labels"][0].astype(np.int16)
            label_map, confidence = output["label_map"][0], output["confidence"][0]
        else:
            best = segment_scores.argmax(1)
            table = np.where(segment_scores.max(1) >= threshold, best, -1).astype(np.int16)
            label_map, confidence = mask_decode(
                output["segment_maps"][0], table, photo.shape[:2], guide=photo if edges else None
            )
        clock.append(time.perf_counter())
        stages = ("load", "preprocess", "network", "decode")
        return Segmentation(
            image=photo,
            label_map=label_map,
            confidence=confidence,
            labels=list(pack.names),
            segment_labels=table,
            segment_scores=segment_scores,
            threshold=float(threshold),
            model=self.sidecar.name,
            marks=pack.marks,
            nearest=pack.nearest,
            timings_ms={stage: 1000 * (end - start) for stage, start, end in zip(stages, clock, clock[1:])},
        )

    def _own_text_vectors(self, names: list[str]) -> np.ndarray:
        try:
            from zeroseg.dense.model import text_vectors

            return text_vectors(self.sidecar, names)
        except ModuleNotFoundError as error:
            reason = f"{error.name} is not installed"
        except ZerosegError as error:
            reason = str(error)
        raise UnavailableError(
            f"model {self.sidecar.name}: its words need its text tower, and {reason}; make a label pack where it is: "
            f"zeroseg words WORDS --model {self.sidecar.dense.text} -o labels.npz"
        )
