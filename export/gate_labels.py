"""Label sets for a meaningful gate: with them the model finds several labels and background in the photos.

The label vectors come from a vocabulary: the known words, if the model uses their embedding space. Otherwise, and if no
words are suitable, vectors are built near the model's embeddings of the photos. Those are taken that separate its
segments or patches.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from zeroseg.export.parity import Case, LabelSet, is_telling, make_cases, network_images
from zeroseg.export.steps import Steps
from zeroseg.runtime.base import Runner
from zeroseg.segment.scores import segment_scores
from zeroseg.sidecar import Sidecar
from zeroseg.words import SPACE

LABEL_COUNTS = (3, 20)  # two label sets, of different size, on the same file
# what background counts in choosing each: in few segments a set cannot have both several labels and background
BACKGROUND = (-0.5, 3)
SOFTNESS = 0.02  # of the range of all scores: labels nearer to each other than this are hardly told apart
BUILT = 512  # rows of a built vocabulary
NEAR = 0.1  # how far from the threshold its rows are to score
FEW = 4  # segments, at most, that a built row is for
IMAGES, PLACES = 16, 512  # looked at, of all there are


class Scored(NamedTuple):
    """scores (U, V) of U segments or places for the V rows of a vocabulary; areas (U,), which sum to 1; photos (U,),
    the number of each one's image."""

    scores: np.ndarray
    areas: np.ndarray
    photos: np.ndarray


def gate_cases(runner: Runner, sidecar: Sidecar, photos: list[np.ndarray], steps: Steps | None = None) -> list[Case]:
    """make_cases with label sets to which this model's masks of the photos (H, W, 3) uint8 are sensitive.

    A CachedRunner has the outputs then that the comparison asks for.
    """
    seen = network_images(sidecar, photos)
    images = [image for photo in seen for image in photo.images]
    return make_cases(sidecar, seen, choose_label_sets(runner, sidecar, images, steps))


def choose_label_sets(
    runner: Runner, sidecar: Sidecar, images: list[np.ndarray], steps: Steps | None = None
) -> list[LabelSet]:
    """Sets of LABEL_COUNTS rows without a row in common; images (1, 3, h, w) float32 as the network takes them.

    The threshold is the sidecar's. A network without segments has no useful one (it has background words): its sets get
    the score that half of the patches reach for any label.
    """
    images = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, IMAGES).astype(int))]
    outputs, steps = [], steps or Steps()
    with steps.step("running the model on the gate's photos", len(images), "image") as done:
        for image in images:
            outputs.append(runner.run(image))
            done()
    with steps.step("choosing the gate's labels from what the model finds in them"):
        return _choose(outputs, sidecar)


def _choose(outputs: list[dict], sidecar: Sidecar) -> list[LabelSet]:
    sets = []
    for rows in _vocabularies(outputs, sidecar):
        seen = _look(outputs, rows, sidecar)
        threshold = float(np.median(seen.scores.max(1))) if sidecar.dense else sidecar.threshold
        left, sets = np.arange(len(rows)), []
        for count, background in zip(LABEL_COUNTS, BACKGROUND):
            chosen = left[_tell_apart(seen._replace(scores=seen.scores[:, left]), threshold, count, background)]
            near = amid(seen.scores[:, chosen].max(1))
            sets.append((LabelSet(np.ascontiguousarray(rows[chosen]), threshold, near), chosen))
            left = np.setdiff1d(left, chosen)
        found = [
            np.where(scores.max(1) >= threshold, scores.argmax(1), -1)
            for scores in (seen.scores[:, chosen] for _, chosen in sets)
        ]
        if is_telling([(labels, seen.areas) for labels in found], LABEL_COUNTS[-1]):
            break
    return [label_set for label_set, _ in sets]


def amid(scores: np.ndarray) -> float:
    """A threshold among scores (U,): in the widest gap of their middle half, so it is near many scores and equal to
    none.
    """
    middle = np.unique(np.quantile(scores, np.linspace(0.25, 0.75, len(scores)), method="nearest"))
    if len(middle) < 2:
        return float(middle[0])
    widest = int(np.argmax(np.diff(middle)))
    return float(middle[widest] + middle[widest + 1]) / 2


def _vocabularies(outputs: list[dict], sidecar: Sidecar) -> Iterator[np.ndarray]:
    """(V, D) float32 unit rows, best first."""
    if sidecar.embedding_space == SPACE:
        from zeroseg.words.table import load_table

        yield load_table().vectors
    yield _built(outputs, sidecar)


def _built(outputs: list[dict], sidecar: Sidecar) -> np.ndarray:
    """Rows that score near the threshold on a few segments or places each, and as it comes on the others."""
    dim, rng = sidecar.embedding_dim, np.random.default_rng(0)
    seen = _look(outputs, np.concatenate([np.eye(dim), -np.eye(dim)]).astype(np.float32), sidecar)
    features = (seen.scores[:, :dim] - seen.scores[:, dim:]) / 2  # what a score is the product of with a label's row
    level = 0.3 * np.median(np.linalg.norm(features, axis=1)) if sidecar.dense else sidecar.threshold
    rows = []
    for _ in range(BUILT):
        chosen = rng.choice(len(features), min(rng.integers(1, FEW + 1), len(features)), replace=False)
        inverse = np.linalg.pinv(features[chosen], rcond=0.05)
        row = inverse @ (level + rng.uniform(-NEAR, NEAR, len(chosen)))
        other = rng.standard_normal(dim)
        other -= inverse @ (features[chosen] @ other)
        row += other / np.linalg.norm(other) * np.sqrt(max(0.0, 1 - row @ row))
        rows.append(row / np.linalg.norm(row))
    return np.array(rows, np.float32)


def _look(outputs: list[dict], rows: np.ndarray, sidecar: Sidecar) -> Scored:
    parts = []
    for number, output in enumerate(outputs):
        if "place_embeddings" in output:
            places = output["place_embeddings"][0]
            embeddings = places.reshape(len(places), -1).T
            area = np.ones(len(embeddings))
        else:
            maps, embeddings = output["segment_maps"][0], output["segment_embeddings"][0]
            area = np.bincount(maps.argmax(0).ravel(), minlength=len(maps)) / maps[0].size
        scores = segment_scores(embeddings, rows, sidecar.scoring)
        there = np.flatnonzero(area)
        there = there[np.unique(np.linspace(0, len(there) - 1, max(1, PLACES // len(outputs))).astype(int))]
        parts.append((scores[there].astype(np.float64), area[there], np.full(len(there), number)))
    scores, areas, photos = (np.concatenate(part) for part in zip(*parts))
    return Scored(scores, areas / areas.sum(), photos)


def _tell_apart(seen: Scored, threshold: float, count: int, background: float) -> list[int]:
    """Columns of seen.scores, taken one by one: each time the one with which the masks say most about where one is,
    among all photos and within each: the labels without a threshold, labels and background, and background alone.
    """
    softness = SOFTNESS * max(np.ptp(seen.scores), 1e-12)
    logits, floor = seen.scores / softness, np.full((len(seen.scores), 1), threshold / softness)
    groups = [np.ones(len(logits), bool), *(seen.photos == number for number in np.unique(seen.photos))]
    chosen = []
    for _ in range(min(count, logits.shape[1])):
        own = logits[:, chosen]
        told = 0
        for group in groups:
            told += _information(own[group], logits[group], seen.areas[group])[0]
            both, split = _information(np.hstack([floor, own])[group], logits[group], seen.areas[group])
            told += both + background * split
        told[chosen] = -np.inf
        chosen.append(int(np.argmax(told)))
    return chosen


def _information(own: np.ndarray, more: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mutual information (nats) of place and label, and of place and whether it is own's first label, for labels drawn
    by the softmax of own (U, n) and one column of more (U, V); times the areas' sum, (V,) each.
    """
    if not own.shape[1]:
        return np.zeros(more.shape[1]), np.zeros(more.shape[1])
    top = own.max(1, keepdims=True)
    total = top + np.log(np.exp(own - top).sum(1, keepdims=True))
    shares, whole = np.exp(own - total), areas.sum()
    new = 1 / (1 + np.exp(np.clip(total - more, -60, 60)))  # (U, V): the new label's share at each place
    inside = areas @ (_entropy(new) + _entropy(1 - new) + (1 - new) * _entropy(shares).sum(1, keepdims=True))
    overall = _entropy(areas @ new / whole) + _entropy((areas[:, None] * shares).T @ (1 - new) / whole).sum(0)
    first = shares[:, :1] * (1 - new)
    mean = areas @ first / whole
    split = whole * (_entropy(mean) + _entropy(1 - mean)) - areas @ (_entropy(first) + _entropy(1 - first))
    return whole * overall - inside, split


def _entropy(share: np.ndarray) -> np.ndarray:
    return -share * np.log(np.maximum(share, 1e-300))
