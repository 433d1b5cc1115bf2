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
from zeroseg.search.group import Group, kept_group, stored_facts, stored_group
from zeroseg.search.hit import Hit, Place
from zeroseg.search.maps import Maps
from zeroseg.search.query import Filters, Query, parse_query
from zeroseg.search.reduced import Reduced, keep_reduced, load_reduced, reduce_rows
from zeroseg.search.store import NEAREST_ERROR, SEGMENTS, Store
from zeroseg.segment.labels import label_pack
from zeroseg.segment.scores import score_directions, segment_scores, unit
from zeroseg.words import LabelPack

_KEPT_FROM = 5_000  # images; from this number on, the reduced vectors are stored on disk
EXACT_MAX = 200_000  # images; up to this number all are compared, unless the caller decides otherwise
_CANDIDATES = 6  # segments requested from the index per wanted image
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
        self._large: tuple[int, bool] | None = None  # version of the table, and the answer

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
        exact: bool | None = None,
    ) -> list[Hit]:
        """The k images with the highest scores, best first.

        words      "red bus"; "dog, cat" (any), "dog+person" (all), "beach-person" (without).
        threshold  images that score below it are left out, and segments below it are background; None: the model's own.
        text       the text encoder, as for zeroseg-infer.
        exact      True compares all images; False takes candidates from LanceDB's index, which may miss some; None uses
                   the index if it exists and there are more than EXACT_MAX images. Scores are exact in each case.
        Raises ZerosegError or ValueError for a bad query.
        """
        query = parse_query(words)
        return self.ranked(query, label_pack(query.words, self.sidecar, text), k, threshold, filters, exact)

    def ranked(
        self,
        query: Query,
        pack: LabelPack,
        k: int,
        threshold: float | None = None,
        filters: Filters | None = None,
        exact: bool | None = None,
    ) -> list[Hit]:
        """search() for a parsed query; pack has the vectors of query.words in that order."""
        threshold = self.sidecar.threshold if threshold is None else float(threshold)
        filters = filters or Filters()
        version = self.look()
        if exact is None:
            exact = not self._is_large(version)
        if not exact:
            return self._by_index(query, pack, k, threshold, filters)
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
            lowest[order], highest[order] = self._bounds(query, *reduced.closer_bounds(directions, order))
            order = order[_candidates(lowest[order], highest[order], threshold, first)]
        hits: list[Hit] = []
        for start in range(0, len(order), _FETCHED):
            some = order[start : start + _FETCHED]
            if len(hits) >= k and sorted((hit.score for hit in hits), reverse=True)[k - 1] >= highest[some[0]]:
                break
            hits += self._fitting_area(self._hits(some, query, pack, threshold), filters)
        return _best(hits, k)

    def _bounds(self, query: Query, low_Nm: np.ndarray, high_Nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, (m,) each, of the query's score for m images, from the bounds for its words."""
        words = {word: i for i, word in enumerate(query.words)}
        limit = np.float32(self.sidecar.threshold)
        return (
            query.combine(lambda word: low_Nm[words[word]], lambda word: high_Nm[words[word]] < limit),
            query.combine(lambda word: high_Nm[words[word]], lambda word: low_Nm[words[word]] < limit),
        )

    def _is_large(self, version: int) -> bool:
        """Whether to use the index: it exists, and there are many images."""
        if self._large is None or self._large[0] != version:
            self._large = version, self.store.has_index() and len(self) > EXACT_MAX
        return self._large[1]

    def _by_index(self, query: Query, pack: LabelPack, k: int, threshold: float, filters: Filters) -> list[Hit]:
        """ranked() among the candidates that LanceDB's index gives for each wanted word."""
        count, words, directions = _CANDIDATES * k + 100, len(query.words), self._directions(pack)
        wanted = sorted({query.words.index(word) for word in query.wanted})
        lists = {i: self.store.nearest(directions[i], count, filters.sql()) for i in wanted}
        numbers = np.unique(np.concatenate([images for images, _ in lists.values()]))
        if k < 1 or not len(numbers):
            return []
        low_Wm = np.full((words, len(numbers)), -np.inf, np.float32)
        high_Wm = np.full((words, len(numbers)), np.inf, np.float32)
        for i, (images, products) in lists.items():
            images, best = np.unique(images, return_index=True)  # the first of an image is its best
            at, slack = np.searchsorted(numbers, images), NEAREST_ERROR * np.linalg.norm(directions[i])
            if len(products) == count:  # the others score less than all listed segments
                high_Wm[i] = products[-1] + slack
            low_Wm[i, at], high_Wm[i, at] = products[best] - slack, products[best] + slack
        lowest, highest = self._bounds(query, low_Wm, high_Wm)
        order = _candidates(lowest, highest, threshold, None if filters.by_area else k)
        hits = self._stored_hits(numbers[order], query, pack, threshold)
        return _best(self._fitting_area(hits, filters), k)

    def like(self, image: int, segment: int, k: int = 20) -> list[tuple[Hit, int]]:
        """Images with the segments most similar to one segment: (hit, its best segment), best first.

        A hit's score is the cosine of the two embeddings; it has no words. A large collection with an index gives the
        best of the index's candidates.
        """
        [vector] = self.vectors(image)[segment : segment + 1]
        direction, version = unit(vector[None]), self.version
        if self._is_large(version):
            numbers, _ = self.store.nearest(direction[0], _CANDIDATES * k + 100, None)
            hits = self._stored_hits([*dict.fromkeys(numbers.tolist())][: k + 1], None, None, 0.0)
        else:
            hits = self._hits(self._nearest(version, direction, k + 1), None, None, 0.0)
        found = []
        for hit in hits:
            scores = unit(hit.embeddings) @ direction[0]
            nearest = int(scores.argmax())
            found.append((hit, nearest, float(scores[nearest])))
        found = sorted(found, key=lambda one: -one[2])
        return [(replace(hit, score=score), nearest) for hit, nearest, score in found if hit.image != image][:k]

    def _nearest(self, version: int, direction: np.ndarray, count: int) -> np.ndarray:
        """Indices in the reduced arrays of the images whose best segments have the highest cosines with (1, D)."""
        reduced = self._state_of(version).reduced
        norms = np.sqrt(np.einsum("nr,nr->n", reduced.points, reduced.points) + reduced.rests**2)
        cosines = (reduced.points @ (reduced.basis.T @ direction[0])) / np.maximum(norms, 1e-12)
        best = np.maximum.reduceat(cosines, reduced.first[:-1])
        return np.argsort(-best, kind="stable")[:count]

    def vectors(self, image: int) -> np.ndarray:
        """(K, D) float32, the embeddings of an image. Raises ZerosegError if the image does not exist."""
        return self.hit(image).embeddings

    def hit(self, image: int) -> Hit:
        """An image by its number, without words. Raises ZerosegError if it does not exist."""
        version = self.look()
        if self._is_large(version):
            hits = self._stored_hits([image], None, None, 0.0)
        else:
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

    def warm(self) -> None:
        """Read now the data that the first search would read; nothing if the index answers."""
        version = self.look()
        if not self._is_large(version):
            self._state_of(version)

    def state(self) -> _State:
        """The data that exact search has in memory, read again if the table has changed."""
        return self._state_of(self.look())

    def _state_of(self, version: int) -> _State:
        if self._state is None or self._state.version != version:
            self._state = _State(version, self._reduce(version))
        return self._state

    def _reduce(self, version: int) -> Reduced:
        folder = None if self.store.remote else Path(self.store.path)
        if folder is not None and (kept := load_reduced(folder, version)) is not None:
            return kept
        dim = self.sidecar.embedding_dim

        def batches(names: Sequence[str], where: str | None):
            return self.store.scan(SEGMENTS, names, where, row_ids=True)

        if folder is not None and len(self) >= _KEPT_FROM:
            try:
                return keep_reduced(batches, dim, folder, version)
            except OSError:  # a read-only collection
                pass
        return reduce_rows(batches, dim)

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
        group = kept_group(self.store, reduced, at)
        return self._made(group, lambda some: reduced.facts.take(at[some]).to_pylist(), query, pack, threshold)

    def _stored_hits(
        self, numbers: Sequence[int], query: Query | None, pack: LabelPack | None, threshold: float
    ) -> list[Hit]:
        """Hits of images by their number, all read from the table; with a query, only those that match it."""
        if not len(numbers):
            return []
        group = stored_group(self.store, numbers)
        return self._made(group, lambda some: stored_facts(self.store, group, some), query, pack, threshold)

    def _made(
        self,
        group: Group,
        facts: Callable[[list[int]], list[dict]],
        query: Query | None,
        pack: LabelPack | None,
        threshold: float,
    ) -> list[Hit]:
        """Hits of a group; facts: of some of its images by their indices."""
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
        known = facts(chosen)
        digests, rows = [one["sha256"] for one in known], [group.rows[group.part(i)] for i in chosen]
        maps = Maps(self.store, self.version, group.images[chosen], digests, rows)
        shown = None if pack is None else pack.pick(query.wanted)
        return [
            self._hit(group, i, fact, *scored[i], maps, shown, threshold) for i, fact in zip(chosen, known, strict=True)
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
    order = np.flatnonzero(highest >= threshold)
    if first is not None and len(order) > first:
        among = np.partition(lowest[order], -first)[-first]  # that many images score at least this
        order = order[highest[order] >= among]
    return order[np.argsort(-highest[order], kind="stable")]


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
