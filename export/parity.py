"""Is an exported file the same model? Two runners, the same inputs, and a verdict on the masks they lead to.

What counts is the decoded label map (zeroseg/kernels/mask_decode); per output the largest difference and the cosine say
where a disagreement comes from. The maps are compared twice, with every segment named and with the sidecar's threshold
applied, so that a threshold above all scores cannot hide a broken map.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from zeroseg.artifact import Sidecar
from zeroseg.dense.segment import photo_windows
from zeroseg.errors import ZerosegError
from zeroseg.image import network_size
from zeroseg.kernels.mask_decode import dense_decode, mask_decode
from zeroseg.kernels.preprocess import preprocess
from zeroseg.runtime.base import DENSE_OUTPUTS, OUTPUTS, Runner

REQUIRED = 0.995  # share of pixels; float32 exports reach 1, float16 weights lose edge pixels
MIOU_CHANGE = 0.3  # points, where masks are given
LABEL_COUNTS = (3, 20)  # two label sets, of different size, on the same file
PHOTO_SIZES = ((480, 640), (640, 480), (300, 300))


class Case(NamedTuple):
    """image (B, 3, h, w) and label_embeddings (N, D) float32; size (H, W), the frame the maps are decoded to."""

    image: np.ndarray
    label_embeddings: np.ndarray
    size: tuple[int, int]


@dataclass
class Parity:
    """agreement: share of pixels with the same label, over all cases, the lower of the two decodings; worst: that of
    the worst photo. max_abs and cosine: per output, over all cases.
    """

    agreement: float
    worst: float
    max_abs: dict[str, float]
    cosine: dict[str, float]
    photos: int
    required: float = REQUIRED
    miou: tuple[float, float] | None = None  # the model's and the file's, in points
    ok: bool = field(init=False)

    def __post_init__(self):
        self.ok = self.why_not() is None

    def why_not(self, what: str = "the exported file") -> str | None:
        """What fails, or None; what was compared is called so."""
        if not self.agreement >= self.required:  # NaN is not
            return (f"{what} gives the same label to only {100 * self.agreement:.3f} % of pixels, "
                    f"{100 * self.required:g} % are required")
        if self.miou and not abs(self.miou[1] - self.miou[0]) <= MIOU_CHANGE:
            return (f"mIoU is {self.miou[1]:.2f} where the model has {self.miou[0]:.2f}, at most {MIOU_CHANGE} points "
                    "apart are allowed")
        return None

    def table(self) -> str:
        lines = [f"{'output':<16}{'max abs diff':>14}{'cosine':>12}"]
        lines += [f"{name:<16}{self.max_abs[name]:>14.2e}{self.cosine[name]:>12.8f}" for name in self.max_abs]
        lines.append(f"same label on {100 * self.agreement:.3f} % of pixels, {100 * self.worst:.3f} % on the worst of "
                     f"{self.photos} decoded photos (required: {100 * self.required:g} %)")
        if self.miou:
            lines.append(f"mIoU {self.miou[0]:.2f} -> {self.miou[1]:.2f} (at most {MIOU_CHANGE} points apart)")
        return "\n".join(lines)


def compare(reference: Runner, candidate: Runner, cases: list[Case], threshold: float) -> Parity:
    """Run both on every case. ZerosegError when a candidate's output has another shape than the reference's."""
    pairs = {}
    shares = []  # (pixels, share with every segment named, share with the threshold)
    for case in cases:
        feed = {"image": case.image, "label_embeddings": case.label_embeddings}
        expected, got = reference.run(feed), candidate.run(feed)
        for name in outputs_in(expected):
            if got[name].shape != expected[name].shape:
                raise ZerosegError(f"{name}: expected {expected[name].shape}, the exported file gave {got[name].shape}")
            both = tuple(side[name].ravel().astype(np.float64) for side in (expected, got))
            pairs.setdefault(name, []).append(both)
        for b in range(len(case.image)):
            same = [_agreement(expected, got, b, case.size, floor) for floor in (-np.inf, threshold)]
            shares.append((case.size[0] * case.size[1], *same))
    pixels, named, thresholded = np.array(shares).T
    max_abs, cosine = {}, {}
    for name, values in pairs.items():
        a, b = (np.concatenate(side) for side in zip(*values))
        max_abs[name] = float(np.abs(a - b).max())
        cosine[name] = float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    agreement = min(np.average(share, weights=pixels) for share in (named, thresholded))
    return Parity(float(agreement), float(min(named.min(), thresholded.min())), max_abs, cosine, len(shares))


def make_cases(sidecar: Sidecar, photos: list[np.ndarray] | None = None, seed: int = 0) -> list[Case]:
    """Every photo with both label sets, and a batch of two. Without photos (H, W, 3) uint8, scenes are drawn.

    The label sets are random unit rows: any direction of the embedding space may be asked for. A network without
    segments sees the photos' windows one by one, the first with both label sets and the others with them in turns, and
    once an image of other sides; each is decoded on its own.
    """
    rng = np.random.default_rng(seed)
    label_sets = [rng.standard_normal((count, sidecar.embedding_dim)).astype(np.float32) for count in LABEL_COUNTS]
    label_sets = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in label_sets]
    photos = photos or [draw_scene(rng, size) for size in PHOTO_SIZES]
    spec, cases = sidecar.input, []
    if sidecar.dense is not None:
        return _window_cases(sidecar, photos, label_sets)
    for photo in photos:
        size = photo.shape[:2]
        image = preprocess(
            photo, network_size(size, spec.short_side, spec.max_long_side, spec.multiple), spec.mean, spec.std
        )
        cases += [Case(image[None], labels, size) for labels in label_sets]
    first = cases[0]
    cases.append(Case(np.concatenate([first.image, first.image[..., ::-1]]), first.label_embeddings, first.size))
    return cases


def _window_cases(sidecar: Sidecar, photos: list[np.ndarray], label_sets: list[np.ndarray]) -> list[Case]:
    side, patch = sidecar.dense.window, sidecar.stride
    window_sets = [photo_windows(sidecar, photo) for photo in photos]
    cases = []
    for windows in window_sets:
        cases += [Case(window[None], label_sets[i % 2], (side, side)) for i, window in enumerate(windows)]
        cases.append(Case(windows[:1], label_sets[1], (side, side)))
    first = cases[0]
    pair = np.concatenate([first.image, first.image[..., ::-1]])
    wide = np.concatenate([first.image, first.image[..., -1 : -patch - 1 : -1]], 3)[:, :, : max(patch, side - patch)]
    return [*cases, Case(pair, *first[1:]), Case(np.ascontiguousarray(wide), label_sets[0], wide.shape[2:])]


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


def _agreement(expected, got, b: int, size, floor: float) -> float:
    """Share of pixels with the same label when segments below `floor` are background; 0 if a value is not finite."""
    if not all(np.isfinite(got[name][b]).all() for name in outputs_in(expected)):
        return 0.0
    if "place_scores" in expected:
        first, second = (dense_decode(output["place_scores"][b], size, threshold=floor)[0]
                         for output in (expected, got))
        return float((first == second).mean())
    decoded = []
    for output in (expected, got):
        scores = output["segment_scores"][b]
        table = np.where(scores.max(1) >= floor, scores.argmax(1), -1).astype(np.int16)
        decoded.append(mask_decode(output["segment_maps"][b], table, size)[0])
    return float((decoded[0] == decoded[1]).mean())
