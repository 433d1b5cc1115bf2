"""Parity of an exported file and its model: run both on the same inputs and compare the masks.

The criterion is the label map, made as users get it (zeroseg.segment). The largest difference and the cosine of each
output show where a disagreement comes from. The maps are compared three times: with every segment labelled, with a
threshold in the middle of the scores, and with the sidecar's threshold. So a threshold above all scores cannot hide a
broken map, and a threshold far from all scores cannot hide rounding. The comparison is invalid if the model itself
finds no foreground, no background or only one label, because then the maps could not differ.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from zeroseg.dense.windows import image_windows
from zeroseg.errors import ZerosegError
from zeroseg.kernels.mask_decode import dense_decode, mask_decode
from zeroseg.runtime.base import DENSE_OUTPUTS, OUTPUTS, Runner
from zeroseg.segment.prepare import network_input
from zeroseg.segment.scores import embedding_scores, fall_off, label_table, segment_scores
from zeroseg.sidecar import Scoring, Sidecar

REQUIRED = 0.995  # share of pixels; float32 exports reach 1, float16 weights lose edge pixels
COSINE = 0.999  # of every output with the model's
MARGIN = 1e-3  # of a score: float16 keeps 11 bits, and the bundled model's scores move by 5e-4 in it
UNDECIDED = 0.1  # share of pixels that may hang on less than MARGIN
MIOU_CHANGE = 0.3  # points, where masks are given
LEAST_SHARE = 0.01  # of the pixels: what there is less of does not count as there
PHOTO_SIZES = ((480, 640), (640, 480), (300, 300))


class LabelSet(NamedTuple):
    """vectors (N, D) float32, unit rows; threshold: what scores lower is background; near: another threshold,
    amid the scores that the model gives these labels, where rounding shows first.
    """

    vectors: np.ndarray
    threshold: float
    near: float


class Case(NamedTuple):
    """image (B, 3, h, w) float32, the network's input; size (H, W), the frame the maps are decoded to; the rest as in
    LabelSet."""

    image: np.ndarray
    size: tuple[int, int]
    vectors: np.ndarray
    threshold: float
    near: float


class Seen(NamedTuple):
    """What the network sees of a photo: images (1, 3, h, w) float32, one or several windows; size (H, W), the frame
    that each is decoded to."""

    images: list[np.ndarray]
    size: tuple[int, int]


@dataclass
class Parity:
    """agreement: share of pixels with the same label, over all cases, the lowest of three thresholds; worst: that of
    the worst photo. max_abs and cosine: per output, over all cases. telling: whether the model's own masks have
    foreground, background and several labels, so that others could differ from them. undecided: the share of pixels
    that do not count, since their label hangs on less than MARGIN of a score.
    """

    agreement: float
    worst: float
    max_abs: dict[str, float]
    cosine: dict[str, float]
    photos: int
    telling: bool = True
    undecided: float = 0.0
    required: float = REQUIRED
    miou: tuple[float, float] | None = None  # the model's and the file's, in points
    ok: bool = field(init=False)

    def __post_init__(self):
        self.ok = self.why_not() is None

    def why_not(self, what: str = "the exported file") -> str | None:
        """The failure in one line, or None. what: the name of the compared file in the message."""
        if not self.telling:
            return (
                "these photos are unsuitable: the model's own masks of them have no foreground, no "
                "background or only one label; use other photos (--photo, --gate-photos)"
            )
        if not self.undecided <= UNDECIDED:
            return (
                f"{100 * self.undecided:.1f} % of the pixels have a label that depends on a score difference "
                f"below {MARGIN:g}, at most {100 * UNDECIDED:g} % are allowed; use other photos (--photo, "
                "--gate-photos)"
            )
        lowest = min(self.cosine, key=self.cosine.get, default=None)
        if lowest is not None and not self.cosine[lowest] >= COSINE:  # NaN is not
            return (
                f"{lowest} of {what} has a cosine of {self.cosine[lowest]:.5f} with the model's, {COSINE} is required"
            )
        if not self.agreement >= self.required:  # NaN is not
            return (
                f"{what} gives the same label to only {100 * self.agreement:.3f} % of pixels, "
                f"{100 * self.required:g} % are required"
            )
        if self.miou and not abs(self.miou[1] - self.miou[0]) <= MIOU_CHANGE:
            return (
                f"mIoU is {self.miou[1]:.2f}, the model has {self.miou[0]:.2f}; at most {MIOU_CHANGE} points "
                "of difference are allowed"
            )
        return None

    def table(self) -> str:
        lines = [f"{'output':<16}{'max abs diff':>14}{'cosine':>12}"]
        lines += [f"{name:<16}{self.max_abs[name]:>14.2e}{self.cosine[name]:>12.8f}" for name in self.max_abs]
        lines.append(
            f"same label on {100 * self.agreement:.3f} % of pixels, {100 * self.worst:.3f} % on the worst of "
            f"{self.photos} decoded photos (required: {100 * self.required:g} %)"
        )
        if self.undecided:
            lines.append(
                f"not counted: {100 * self.undecided:.2f} % of the pixels, whose label depends on a score "
                f"difference below {MARGIN:g} (allowed: {100 * UNDECIDED:g} %)"
            )
        if self.miou:
            lines.append(f"mIoU {self.miou[0]:.2f} -> {self.miou[1]:.2f} (at most {MIOU_CHANGE} points apart)")
        return "\n".join(lines)


def compare(
    reference: Runner,
    candidate: Runner,
    cases: list[Case],
    scoring: Scoring,
    on_case: Callable[[], object] = lambda: None,
) -> Parity:
    """Run both on every case, and call on_case after each. ZerosegError when there is none, or when a candidate's
    output has another shape than the reference's.
    """
    if not cases:
        raise ZerosegError("no comparison possible: the exported file takes none of the images' sizes")
    pairs = {}
    tallies = [([], []) for _ in range(3)]  # per threshold and image: pixels with the same label, pixels that count
    pixels = []  # per image
    found = {}  # label set -> the reference's label maps
    answers = {}  # an image is run once, whatever number of cases it is in
    for case in cases:
        key = id(case.image)
        if key not in answers:
            answers[key] = expected, got = reference.run(case.image), candidate.run(case.image)
            for name in outputs_in(expected):
                if got[name].shape != expected[name].shape:
                    wanted = f"expected {expected[name].shape}, the exported file gave {got[name].shape}"
                    raise ZerosegError(f"{name}: {wanted}")
                both = tuple(side[name].ravel().astype(np.float64) for side in (expected, got))
                pairs.setdefault(name, []).append(both)
        expected, got = answers[key]
        for b in range(len(case.image)):
            for floor, (same, counted) in zip((-np.inf, case.near, case.threshold), tallies, strict=True):
                own, other = (label_map(output, b, case, floor, scoring) for output in (expected, got))
                counts = decided(expected, b, case, floor, scoring)
                broken = own is None or other is None  # not finite: wrong everywhere
                same.append(0 if broken else int(((own == other) & counts).sum()))
                counted.append(counts.size if broken else int(counts.sum()))
            pixels.append(case.size[0] * case.size[1])
            if own is not None:
                found.setdefault(case.vectors.tobytes(), []).append(own.ravel())
        on_case()
    max_abs, cosine = {}, {}
    for name, values in pairs.items():
        a, b = (np.concatenate(side) for side in zip(*values))
        max_abs[name] = float(np.abs(a - b).max())
        cosine[name] = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    same, counted = np.array(tallies, float).transpose(1, 0, 2)  # (thresholds, images) each
    agreement = (same.sum(1) / np.maximum(counted.sum(1), 1)).min()
    asked = max(len(case.vectors) for case in cases)
    telling = is_telling([(np.concatenate(maps), None) for maps in found.values()], asked)
    worst = (same / np.maximum(counted, 1))[counted > LEAST_SHARE * np.array(pixels)].min(initial=1)
    undecided = 1 - counted.sum() / (len(tallies) * sum(pixels))
    return Parity(float(agreement), float(worst), max_abs, cosine, len(pixels), telling, float(undecided))


def decided(output, b: int, case: Case, floor: float, scoring: Scoring) -> np.ndarray:
    """(H, W) bool: the pixels of image b whose label stays the same if every score changes by up to MARGIN.

    For a network with segments. Without segments, all pixels count.
    """
    if "place_embeddings" in output:
        return np.ones(case.size, bool)
    scores_KN = embedding_scores(output["segment_embeddings"][b], case.vectors, scoring)
    best_N, share = scores_KN.max(0), scoring.share
    low, high = (fall_off(scores_KN + d, share, best_N - d) if share else scores_KN + d for d in (-MARGIN, MARGIN))
    label_K = segment_scores(output["segment_embeddings"][b], case.vectors, scoring).argmax(1)
    own_K = low[np.arange(len(low)), label_K]
    others_KN = high.copy()
    others_KN[np.arange(len(high)), label_K] = -np.inf
    background_K = high.max(1) < floor
    named_K = (own_K >= floor) & (own_K > others_KN.max(1))
    segments = mask_decode(output["segment_maps"][b], np.arange(len(low)), case.size)[0]
    return (background_K | named_K)[segments]


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


def make_cases(sidecar: Sidecar, seen: list[Seen], label_sets: list[LabelSet]) -> list[Case]:
    """Every photo of network_images with both label sets, and a batch of two. Sets that tell much:
    export/gate_labels.py.

    A network without segments sees the photos' windows one by one, the first with both label sets and the others with
    them in turns, and once an image of other sides; each is decoded on its own.
    """

    def case(image, label_set, size):
        return Case(image, size, *label_set)

    cases = []
    for images, size in seen:
        cases += [case(image, label_sets[i % 2], size) for i, image in enumerate(images)]
        cases.append(case(images[0], label_sets[1], size))
    first, patch = cases[0], sidecar.side_multiple
    cases.append(case(np.concatenate([first.image, first.image[..., ::-1]]), label_sets[0], first.size))
    if sidecar.dense is not None:
        wide = np.concatenate([first.image, first.image[..., -1 : -patch - 1 : -1]], 3)
        wide = np.ascontiguousarray(wide[:, :, : max(patch, sidecar.dense.window - patch)])
        cases.append(case(wide, label_sets[0], wide.shape[2:]))
    return cases


def network_images(sidecar: Sidecar, photos: list[np.ndarray]) -> list[Seen]:
    """What the network sees of each photo (H, W, 3) uint8. Without photos, scenes are drawn."""
    if not photos:
        rng = np.random.default_rng(0)
        photos = [draw_scene(rng, size) for size in PHOTO_SIZES]
    found, dense = [], sidecar.dense
    for photo in photos:
        image = network_input(photo, sidecar)
        if dense is None:
            found.append(Seen([image[None]], photo.shape[:2]))
        else:
            windows = image_windows(image, dense.window, dense.stride)
            found.append(Seen([window[None] for window in windows], (dense.window, dense.window)))
    return found


def outputs_in(outputs) -> tuple[str, ...]:
    """The names of a network's outputs, with segments or without."""
    return DENSE_OUTPUTS if "place_embeddings" in outputs else OUTPUTS


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


def label_map(output, b: int, case: Case, floor: float, scoring: Scoring) -> np.ndarray | None:
    """Image b of a network's outputs as a label map (H, W), -1 where the best score is below `floor`; None if a value
    is not finite.
    """
    if not all(np.isfinite(output[name][b]).all() for name in outputs_in(output)):
        return None
    if "place_embeddings" in output:
        places = output["place_embeddings"][b]
        maps = (case.vectors @ places.reshape(len(places), -1)).reshape(-1, *places.shape[1:])
        return dense_decode(maps, case.size, threshold=floor)[0]
    scores = segment_scores(output["segment_embeddings"][b], case.vectors, scoring)
    return mask_decode(output["segment_maps"][b], label_table(scores, floor), case.size)[0]
