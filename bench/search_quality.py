"""Is a search any good? Average precision of images and IoU of the masks shown, for every class of a folder with masks.

An image is relevant for a class where the class has a pixel in its mask. All images are ranked, by the best segment's
score as `zeroseg search` does and, beside it, by the score of the image embedding alone. The IoU is that of the mask
shown and the class's mask (pixels that do not count left out): its mean over the first ten images that the search
shows.
"""

import tempfile
from pathlib import Path

import numpy as np

from zeroseg.evaluation.folders import MaskFolder
from zeroseg.search.collection import Collection
from zeroseg.search.encoding import Batch, Encoder
from zeroseg.search.query import Alternative, Query
from zeroseg.search.store import Store
from zeroseg.search.units import list_units
from zeroseg.segment.labels import label_pack
from zeroseg.segment.scores import embedding_scores

SHOWN = 10
NOT_COUNTED = 255


def average_precision(relevant: np.ndarray) -> float:
    """Mean over the relevant of the precision up to each; relevant (n,) bool in the order of the ranking."""
    places = np.flatnonzero(relevant)
    return float(((np.arange(len(places)) + 1) / (places + 1)).mean()) if len(places) else float("nan")


def measure_quality(dataset: MaskFolder, model: str | None, say=print) -> list[dict]:
    """One row a class that some mask contains: class, images (that contain it), ap, ap_image, iou, shown."""
    with tempfile.TemporaryDirectory() as folder:
        collection, whole = _encode(dataset, model, Path(folder) / "collection")
        masks = [dataset.load(i)[1] for i in range(len(dataset))]
        counted = {c: np.array([(mask == c).any() for mask in masks]) for c in range(len(dataset.classes))}
        rows = []
        say(f"{'class':<22}{'images':>7}{'AP':>8}{'AP image':>10}{'IoU':>8}{'shown':>7}")
        for number, name in enumerate(dataset.classes):
            if number == dataset.background or not counted[number].any():
                continue
            rows.append(_class_row(collection, whole, masks, counted[number], number, name))
            say(_line(rows[-1]))
        mean = {key: float(np.nanmean([row[key] for row in rows])) for key in ("ap", "ap_image", "iou")}
        say(_line({"class": "mean", "images": len(dataset), "shown": 0, **mean}))
        return rows


def _encode(dataset: MaskFolder, model: str | None, folder: Path) -> tuple[Collection, np.ndarray]:
    """The collection, in which image i is the dataset's i-th, and (M, D) float32 image embeddings."""
    encoder, store = Encoder(model), Store(folder)
    store.create(encoder.segmenter.sidecar, {"sources": {}, "model": {}, "every_s": 1.0})
    whole = []
    for i, photo in enumerate(dataset.photos):
        [unit] = list_units([str(photo)], [], 1.0)
        store.append(encoder.part(Batch(i, (unit,))), i)
        whole.append(encoder.segmenter.encode(photo).image_embedding)
    return Collection.open(folder), np.stack(whole)


def _class_row(collection, whole, masks, relevant: np.ndarray, number: int, name: str) -> dict:
    pack, query = label_pack([name], collection.sidecar), Query((Alternative((name,)),))
    ranked = collection.ranked(query, pack, len(masks), threshold=-2.0)
    by_image = embedding_scores(whole, pack.vectors, collection.sidecar.scoring)[:, 0]
    shown = collection.ranked(query, pack, SHOWN)
    ious = []
    for hit in shown:
        truth, mask = masks[hit.image] == number, hit.mask() & (masks[hit.image] != NOT_COUNTED)
        ious.append((truth & mask).sum() / max(1, (truth | mask).sum()))
    return {
        "class": name,
        "images": int(relevant.sum()),
        "ap": average_precision(relevant[[hit.image for hit in ranked]]),
        "ap_image": average_precision(relevant[np.argsort(-by_image, kind="stable")]),
        "iou": float(np.mean(ious)) if ious else float("nan"),
        "shown": len(shown),
    }


def _line(row: dict) -> str:
    return (
        f"{row['class']:<22}{row['images']:>7}{100 * row['ap']:>8.1f}{100 * row['ap_image']:>10.1f}"
        f"{100 * row['iou']:>8.1f}{row['shown']:>7}"
    )
