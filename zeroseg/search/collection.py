"""Search a collection by any words; no network runs.

collection = Collection.open("collection")
for hit in collection.search("red bus", k=20):
    print(hit.path, hit.time, hit.score)
    mask = hit.mask()
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.search.group import Group, read_group
from zeroseg.search.hit import Hit, Place
from zeroseg.search.maps import Maps
from zeroseg.search.query import Filters, Query, parse_query
from zeroseg.search.reduced import Reduced, keep_reduced, load_reduced, reduce_rows
from zeroseg.search.store import SEGMENTS, Store
from zeroseg.search.thumbnails import Thumbnails
from zeroseg.segment.labels import label_pack
from zeroseg.segment.scores import score_directions, segment_scores, unit
from zeroseg.words import LabelPack

_KEPT_FROM = 5_000  # images; from this number on, the reduced vectors are stored on disk
_PART = 64  # images whose best bound is taken first
_STEP = 512  # images that are compared closely before the others are looked at again
_LIKE = 32  # images compared closely for each that like() returns
_FETCHED = 256  # images whose rows are read at once


@dataclass(frozen=True)
class _State:
    """The data in memory for one version of the table."""

    version: int
    reduced: Reduced


class Collection:
    """An opened collection. Not for several threads at once."""

    def __init__(self, store: Store, roots: Mapping[str, str]):
        self.store, self.roots = store, dict(roots)
        about = store.about()
        self.sidecar, self.sources, self.model = about["sidecar"], list(about["sources"]), about["model"]
        self.version = -1  # of the table at the last check
        self._state: _State | None = None

    @classmethod
    def open(
        cls, path: str | os.PathLike, root: str | None = None, options: dict[str, str] | None = None
    ) -> "Collection":
        """Open a collection made by zeroseg index.

        root     the new folder of the photos if it has moved: NEW, or OLD=NEW if the collection has several folders.
        options  for S3-compatible storage, see zeroseg.search.store.Store.
        Raises ZerosegError if there is no collection, or if it has another format.
        """
        if "://" not in os.fspath(path) and not os.path.isdir(path):
            raise ZerosegError(f"{path}: no such collection; make one with: zeroseg index PHOTOS -o {path}")
        store = Store(path, options)
        return cls(store, read_root(root, list(store.about()["sources"])) if root else {})

    def __len__(self) -> int:
        return self.store.count()

    def search(
        self,
        words: str,
        k: int = 20,
        threshold: float | None = None,
        filters: Filters | None = None,
        text: str = "auto",
    ) -> list[Hit]:
        """The k images with the highest scores, best first.

        words      "red bus"; "dog, cat" (any), "dog+person" (all), "beach-person" (without).
        threshold  images that score below it are left out, and segments below it are background; None: the model's own.
        text       the text encoder, as for zeroseg-infer.
        Raises ZerosegError or ValueError for a bad query.
        """
        query = parse_query(words)
        return self.ranked(query, label_pack(query.words, self.sidecar, text), k, threshold, filters)

    def ranked(
        self,
        query: Query,
        pack: LabelPack,
        k: int,
        threshold: float | None = None,
        filters: Filters | None = None,
    ) -> list[Hit]:
        """search() for a parsed query; pack has the vectors of query.words in that order."""
        threshold = self.sidecar.threshold if threshold is None else float(threshold)
        filters = filters or Filters()
        version = self.look()
        reduced = self._state_of(version).reduced
        if k < 1 or not len(reduced.images):
            return []
        directions = self._directions(pack)
        lowest, highest = self._bounds(query, *reduced.bounds(directions))
        if filters.of_images:
            outside = ~self._fitting(filters)
            lowest[outside] = highest[outside] = -np.inf
        first = None if filters.by_area else k
        order = _candidates(lowest, highest, threshold, first)
        if first is not None and k < len(order):
            order = self._closer(query, directions, order, lowest, highest, threshold, k)
        hits: list[Hit] = []
        for start in range(0, len(order), _FETCHED):
            some = order[start : start + _FETCHED]
            if len(hits) >= k and sorted((hit.score for hit in hits), reverse=True)[k - 1] >= highest[some[0]]:
                break
            hits += self._fitting_area(self._hits(some, query, pack, threshold), filters)
        return _best(hits, k)

    def _closer(
        self,
        query: Query,
        directions: np.ndarray,
        order: np.ndarray,
        lowest: np.ndarray,
        highest: np.ndarray,
        threshold: float,
        k: int,
    ) -> np.ndarray:
        """Those of `order` that can still be among the k best by closer bounds, which replace the images' bounds.

        The highest come first. As soon as k of them are known to be better than the rest can be, the rest is left out.
        """
        reduced, done, step = self._state.reduced, order[:0], max(_STEP, k)
        while len(order):
            some, order = order[:step], order[step:]
            lowest[some], highest[some] = self._bounds(query, *reduced.closer_bounds(directions, some))
            done = np.concatenate([done, some])
            if len(done) >= k:
                order = order[highest[order] >= max(threshold, _kth(lowest[done], k))]
        return done[_candidates(lowest[done], highest[done], threshold, k)]

    def _bounds(self, query: Query, low_Nm: np.ndarray, high_Nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, (m,) each, of the query's score for m images, from the bounds for its words."""
        words = {word: i for i, word in enumerate(query.words)}
        limit = np.float32(self.sidecar.threshold)
        return (
            query.combine(lambda word: low_Nm[words[word]], lambda word: high_Nm[words[word]] < limit),
            query.combine(lambda word: high_Nm[words[word]], lambda word: low_Nm[words[word]] < limit),
        )

    def like(self, image: int, segment: int, k: int = 20) -> list[tuple[Hit, int]]:
        """Images with the segments most similar to one segment: (hit, its best segment), best first.

        A hit's score is the cosine of the two embeddings; it has no words. The first pass takes _LIKE images for each
        of the k by approximate cosines, so a segment much shorter than its neighbours might be missed.
        """
        [vector] = self.vectors(image)[segment : segment + 1]
        direction, reduced = unit(vector[None]), self._state_of(self.version).reduced
        lowest, highest = (one[0] for one in reduced.bounds(direction, cosine=True))
        count = min(len(lowest), _LIKE * (k + 1))  # not all that the bounds allow: short segments' bounds are wide
        order = np.argpartition(-(lowest + highest), count - 1)[:count]
        closer = (one[0] for one in reduced.closer_bounds(direction, order, cosine=True))
        found = []
        for hit in self._hits(order[_candidates(*closer, -np.inf, k + 1)], None, None, 0.0):
            scores = unit(hit.embeddings) @ direction[0]
            nearest = int(scores.argmax())
            found.append((hit, nearest, float(scores[nearest])))
        found = sorted(found, key=lambda one: -one[2])
        return [(replace(hit, score=score), nearest) for hit, nearest, score in found if hit.image != image][:k]

    def vectors(self, image: int) -> np.ndarray:
        """(K, D) float32, the embeddings of an image. Raises ZerosegError if the image does not exist."""
        return self.hit(image).embeddings

    def hit(self, image: int) -> Hit:
        """An image by its number, without words. Raises ZerosegError if it does not exist."""
        version = self.look()
        images = self._state_of(version).reduced.images
        at = int(np.searchsorted(images, image))
        hits = self._hits(np.array([at]), None, None, 0.0) if at < len(images) and images[at] == image else []
        if not hits:
            raise ZerosegError(f"image {image}: the collection has no image of this number")
        return hits[0]

    def look(self) -> int:
        """Check the table; return its newest version, which `version` keeps."""
        self.version = self.store.version()
        return self.version

    @property
    def is_large(self) -> bool:
        """Whether what a search reads is stored on disk, if the collection is local."""
        return len(self) >= _KEPT_FROM

    def state(self) -> _State:
        """The data that a search has in memory, read again if the table has changed."""
        return self._state_of(self.look())

    def prepare(self, on_images: Callable[[int], object] = lambda count: None) -> None:
        """End an update: delete old thumbnails, and store what the first search in a large collection would store.

        Does nothing in remote storage. on_images gets the numbers of images read meanwhile; each is read twice.
        """
        if self.store.remote:
            return
        Thumbnails(self.store.path).keep(
            pair
            for batch in self.store.scan(SEGMENTS, ["sha256", "position_s"], "segment = 0")
            for pair in zip(batch["sha256"].to_pylist(), batch["position_s"].to_pylist(), strict=True)
        )
        if self.is_large:
            version = self.look()
            self._state = _State(version, self._reduce(version, on_images))

    def _state_of(self, version: int) -> _State:
        if self._state is None or self._state.version != version:
            self._state = _State(version, self._reduce(version))
        return self._state

    def _reduce(self, version: int, on_images: Callable[[int], object] = lambda count: None) -> Reduced:
        folder = None if self.store.remote else Path(self.store.path)
        if folder is not None and (kept := load_reduced(folder, version)) is not None:
            return kept
        dim, images = self.sidecar.embedding_dim, len(self)

        def batches(names: Sequence[str], where: str | None):
            for batch in self.store.scan(SEGMENTS, names, where, row_ids=True):
                yield batch
                if where is None:
                    on_images(int(np.count_nonzero(np.asarray(batch["segment"]) == 0)))

        if folder is not None and self.is_large:
            try:
                return keep_reduced(batches, dim, images, folder, version)
            except OSError:  # a read-only collection
                pass
        return reduce_rows(batches, dim, images)

    def _directions(self, pack: LabelPack) -> np.ndarray:
        return score_directions(pack.vectors, self.sidecar.scoring)

    def _fitting(self, filters: Filters) -> np.ndarray:
        """(m,) bool, in the order of reduced.images."""
        facts = self._state.reduced.facts
        return filters.fitting(facts["path"], facts["taken"])

    def _fitting_area(self, hits: list[Hit], filters: Filters) -> list[Hit]:
        return [hit for hit in hits if not filters.by_area or filters.least <= hit.share <= filters.most]

    def _hits(self, at: np.ndarray, query: Query | None, pack: LabelPack | None, threshold: float) -> list[Hit]:
        """Hits of images by their index in the reduced arrays; with a query, only those that match it."""
        reduced = self._state.reduced
        group = read_group(self.store, reduced, at)
        scored: dict[int, tuple[float, dict[str, float]]] = {}
        for i in range(len(group.images)):
            score, scores = 0.0, {}
            if query is not None:
                score, scores = self._score(group.vectors[group.part(i)], query, pack)
                if not score >= np.float32(threshold):
                    continue
            scored[i] = score, scores
        if not scored:
            return []
        chosen = list(scored)
        facts = reduced.facts.take(at[chosen]).to_pylist()
        digests, rows = [fact["sha256"] for fact in facts], [group.rows[group.part(i)] for i in chosen]
        maps = Maps(self.store, self.version, group.images[chosen], digests, rows)
        shown = None if pack is None else pack.pick(query.wanted)
        return [
            self._hit(group, i, fact, *scored[i], maps, shown, threshold) for i, fact in zip(chosen, facts, strict=True)
        ]

    def _score(self, embeddings: np.ndarray, query: Query, pack: LabelPack) -> tuple[float, dict[str, float]]:
        """The exact score of an image for a query, and that of each wanted word."""
        best = dict(zip(query.words, segment_scores(embeddings, pack.vectors, self.sidecar.scoring).max(0)))
        limit = np.float32(self.sidecar.threshold)
        score = query.combine(lambda word: best[word][None], lambda word: best[word][None] < limit)
        return float(score[0]), {word: float(best[word]) for word in query.wanted}

    def _hit(self, group: Group, i: int, fact: dict, score, scores, maps: Maps, pack, threshold: float) -> Hit:
        part = group.part(i)
        place = Place(
            fact["path"], os.fsdecode(fact["file"]), fact["offset"], fact["size"], fact["position_s"], self.roots
        )
        return Hit(
            image=int(group.images[i]),
            place=place,
            score=score,
            scores=scores,
            taken=fact["taken"],
            position_s=fact["position_s"],
            size=(fact["height"], fact["width"]),
            sha256=fact["sha256"],
            areas=group.areas[part],
            boxes=group.boxes[part],
            maps=maps,
            grid=(fact["rows"], fact["columns"]),
            embeddings=group.vectors[part],
            pack=pack,
            threshold=threshold,
            sidecar=self.sidecar,
        )


def _best(hits: list[Hit], k: int) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.image))[:k]


def _candidates(lowest: np.ndarray, highest: np.ndarray, threshold: float, first: int | None) -> np.ndarray:
    """Indices of the images that can be among the `first` best, with None of all that can reach the threshold; the
    highest bound first."""
    parts = len(lowest) // _PART
    if first is not None and parts >= first:  # the best of each part: a quick bound that leaves few images
        threshold = max(threshold, _kth(lowest[: parts * _PART].reshape(parts, _PART).max(1), first))
    order = np.flatnonzero(highest >= threshold)
    if first is not None and len(order) > first:
        order = order[highest[order] >= _kth(lowest[order], first)]  # that many images score at least this
    return order[np.argsort(-highest[order], kind="stable")]


def _kth(values: np.ndarray, k: int) -> np.floating:
    """The k-th highest value."""
    return np.partition(values, -k)[-k]


def read_root(root: str, sources: Sequence[str]) -> dict[str, str]:
    """Parse --root into old -> new folder. Raises ZerosegError if it does not say which of several folders moved."""
    old, is_pair, new = root.rpartition("=")
    if not is_pair and len(sources) > 1:
        raise ZerosegError(f"--root {root}: the collection has {len(sources)} folders; say which: {sources[0]}={root}")
    old = os.path.abspath(old) if is_pair else sources[0]
    if old not in sources:
        raise ZerosegError(f"--root {root}: {old} is none of the collection's folders, which are: {', '.join(sources)}")
    if not os.path.exists(new):
        raise ZerosegError(f"--root {root}: {new} does not exist")
    return {old: os.path.realpath(new)}
