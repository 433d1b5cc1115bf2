"""Is an exported file the same model? Two runners, the same inputs, and a verdict on the masks they lead to.

What counts is the decoded label map (zeroseg/kernels/mask_decode); per output the largest difference and the cosine say
where a disagreement comes from. The maps are compared twice, with every segment named and with the sidecar's threshold
applied, so that a threshold above all scores cannot hide a broken map. And they must be able to differ: where the model
itself finds no foreground, no background or one label only, nothing was compared.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from zeroseg.artifact import Sidecar
from zeroseg.dense.segment import photo_windows
from zeroseg.errors import ZerosegError
from zeroseg.kernels.mask_decode import dense_decode, mask_decode
from zeroseg.kernels.preprocess import preprocess
from zeroseg.photos.network_size import network_size
from zeroseg.runtime.base import DENSE_OUTPUTS, OUTPUTS, Runner

REQUIRED = 0.995  # share of pixels; float32 exports reach 1, float16 weights lose edge pixels
MIOU_CHANGE = 0.3  # points, where masks are given
LEAST_SHARE = 0.01  # of the pixels: what there is less of does not count as there
PHOTO_SIZES = ((480, 640), (640, 480), (300, 300))


class LabelSet(NamedTuple):
    """rows (N, D) float32, unit; threshold: what scores lower is background."""

    rows: np.ndarray
    threshold: float


class Case(NamedTuple):
    """image (B, 3, h, w) and label_embeddings (N, D) float32; size (H, W), the frame the maps are decoded to;
    threshold, of the label set."""

    image: np.ndarray
    label_embeddings: np.ndarray
    size: tuple[int, int]
    threshold: float


@dataclass
class Parity:
    """agreement: share of pixels with the same label, over all cases, the lower of the two decodings; worst: that of
    the worst photo. max_abs and cosine: per output, over all cases. telling: whether the model's own masks have
    foreground, background and several labels, so that others could differ from them.
    """

    agreement: float
    worst: float
    max_abs: dict[str, float]
    cosine: dict[str, float]
    photos: int
    telling: bool = True
    required: float = REQUIRED
    miou: tuple[float, float] | None = None  # the model's and the file's, in points
    ok: bool = field(init=False)

    def __post_init__(self):
        self.ok = self.why_not() is None

    def why_not(self, what: str = "the exported file") -> str | None:
        """What fails, or None; what was compared is called so."""
        if not self.telling:
            return (
                "these photos say nothing: in its own masks of them the model has no foreground, no background or "
                "one label only; compare on others (--photo, --gate-photos)"
            )
        if not self.agreement >= self.required:  # NaN is not
            return (
                f"{what} gives the same label to only {100 * self.agreement:.3f} % of pixels, "
                f"{100 * self.required:g} % are required"
            )
        if self.miou and not abs(self.miou[1] - self.miou[0]) <= MIOU_CHANGE:
            return (
                f"mIoU is {self.miou[1]:.2f} where the model has {self.miou[0]:.2f}, at most {MIOU_CHANGE} points "
                "apart are allowed"
            )
        return None

    def table(self) -> str:
        lines = [f"{'output':<16}{'max abs diff':>14}{'cosine':>12}"]
        lines += [f"{name:<16}{self.max_abs[name]:>14.2e}{self.cosine[name]:>12.8f}" for name in self.max_abs]
        lines.append(
            f"same label on {100 * self.agreement:.3f} % of pixels, {100 * self.worst:.3f} % on the worst of "
            f"{self.photos} decoded photos (required: {100 * self.required:g} %)"
        )
        if self.miou:
            lines.append(f"mIoU {self.miou[0]:.2f} -> {self.miou[1]:.2f} (at most {MIOU_CHANGE} points apart)")
        return "\n".join(lines)


def compare(reference: Runner, candidate: Runner, cases: list[Case]) -> Parity:
    """Run both on every case. ZerosegError when there is none, or when a candidate's output has another shape than the
    reference's.
    """
    if not cases:
        raise ZerosegError("nothing to compare on: none of the photos has a size that the exported file takes")
    pairs = {}
    shares = []  # (pixels, share with every segment named, share with the threshold)
    found = {}  # label set -> the reference's label maps
    for case in cases:
        feed = {"image": case.image, "label_embeddings": case.label_embeddings}
        expected, got = reference.run(feed), candidate.run(feed)
        for name in outputs_in(expected):
            if got[name].shape != expected[name].shape:
                raise ZerosegError(f"{name}: expected {expected[name].shape}, the exported file gave {got[name].shape}")
            both = tuple(side[name].ravel().astype(np.float64) for side in (expected, got))
            pairs.setdefault(name, []).append(both)
        for b in range(len(case.image)):
            same = []
            for floor in (-np.inf, case.threshold):
                own, other = (label_map(output, b, case.size, floor) for output in (expected, got))
                same.append(0.0 if own is None or other is None else float((own == other).mean()))
            shares.append((case.size[0] * case.size[1], *same))
            if own is not None:
                found.setdefault(case.label_embeddings.tobytes(), []).append(own.ravel())
    pixels, named, thresholded = np.array(shares).T
    max_abs, cosine = {}, {}
    for name, values in pairs.items():
        a, b = (np.concatenate(side) for side in zip(*values))
        max_abs[name] = float(np.abs(a - b).max())
        cosine[name] = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    agreement = min(np.average(share, weights=pixels) for share in (named, thresholded))
    asked = max(len(case.label_embeddings) for case in cases)
    telling = is_telling([(np.concatenate(maps), None) for maps in found.values()], asked)
    return Parity(float(agreement), float(min(named.min(), thresholded.min())), max_abs, cosine, len(shares), telling)


def is_telling(found: list[tuple[np.ndarray, np.ndarray | None]], asked: int) -> bool:
    """Whether label maps could show a difference: foreground and background in them, and several labels in one, if more
    than one was asked for.

    found: per label set the labels (P,), -1 for background, and what each counts, None for all the same.
    """
    shares = [np.bincount(labels + 1, weights, minlength=2) for labels, weights in found]
    shares = [share / share.sum() for share in shares]
    background = np.mean([share[0] for share in shares]) if shares else 0
    several = any((share[1:] >= LEAST_SHARE).sum() >= min(asked, 2) for share in shares)
    return bool(several and LEAST_SHARE <= background <= 1 - LEAST_SHARE)


def make_cases(sidecar: Sidecar, photos: list[np.ndarray], label_sets: list[LabelSet]) -> list[Case]:
    """Every photo (H, W, 3) uint8 with both label sets, and a batch of two. Sets that tell much: export/gate_labels.py.

    A network without segments sees the photos' windows one by one, the first with both label sets and the others with
    them in turns, and once an image of other sides; each is decoded on its own.
    """

    def case(image, label_set, size):
        return Case(image, label_set.rows, size, label_set.threshold)

    cases = []
    for images, size in network_images(sidecar, photos):
        cases += [case(images[i : i + 1], label_sets[i % 2], size) for i in range(len(images))]
        cases.append(case(images[:1], label_sets[1], size))
    first, patch = cases[0], sidecar.stride
    cases.append(case(np.concatenate([first.image, first.image[..., ::-1]]), label_sets[0], first.size))
    if sidecar.dense is not None:
        wide = np.concatenate([first.image, first.image[..., -1 : -patch - 1 : -1]], 3)
        wide = np.ascontiguousarray(wide[:, :, : max(patch, sidecar.dense.window - patch)])
        cases.append(case(wide, label_sets[0], wide.shape[2:]))
    return cases


def network_images(sidecar: Sidecar, photos: list[np.ndarray]) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Per photo (H, W, 3) uint8 what the network sees of it, (B, 3, h, w) float32, and the size that each is decoded
    to: the photo, or windows of it. Without photos, scenes are drawn.
    """
    if not photos:
        rng = np.random.default_rng(0)
        photos = [draw_scene(rng, size) for size in PHOTO_SIZES]
    spec, dense = sidecar.input, sidecar.dense
    if dense is not None:
        return [(photo_windows(sidecar, photo), (dense.window, dense.window)) for photo in photos]
    found = []
    for photo in photos:
        size = network_size(photo.shape[:2], spec.short_side, spec.max_long_side, spec.multiple)
        found.append((preprocess(photo, size, spec.mean, spec.std)[None], photo.shape[:2]))
    return found


def outputs_in(outputs) -> tuple[str, ...]:
    """The names of what a network gave, whichever face it has."""
    return DENSE_OUTPUTS if "place_scores" in outputs else OUTPUTS


def draw_scene(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A picture with regions: textured ellipses on a gradient. (H, W, 3) uint8."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    scene = rng.uniform(0, 255, 3) + (y / height)[..., None] * rng.uniform(-120, 120, 3)
    for _ in range(6):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ry, rx = rng.uniform(0.1, 0.35, 2) * min(size)
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        stripes = 40 * np.sin((x[inside] * rng.uniform(-1, 1) + y[inside] * rng.uniform(-1, 1)) * rng.uniform(0.1, 0.8))
        scene[inside] = rng.uniform(0, 255, 3) + stripes[:, None]
    return np.clip(scene + rng.normal(0, 6, (height, width, 1)), 0, 255).astype(np.uint8)


def label_map(output, b: int, size: tuple[int, int], floor: float) -> np.ndarray | None:
    """Image b of a network's outputs as a label map (H, W), -1 where the best score is below `floor`; None if a value
    is not finite.
    """
    if not all(np.isfinite(output[name][b]).all() for name in outputs_in(output)):
        return None
    if "place_scores" in output:
        return dense_decode(output["place_scores"][b], size, threshold=floor)[0]
    return mask_decode(output["segment_maps"][b], segment_table(output["segment_scores"][b], floor), size)[0]


def segment_table(scores: np.ndarray, floor: float) -> np.ndarray:
    """scores (K, N) -> (K,) int16: the label of every segment, -1 where its best score is below `floor`."""
    return np.where(scores.max(1) >= np.float32(floor), scores.argmax(1), -1).astype(np.int16)
