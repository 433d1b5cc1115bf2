"""Search a collection by any words; no network runs.

collection = Collection.open("collection")
for hit in collection.search("red bus", k=20):
    print(hit.path, hit.time, hit.score)
    mask = hit.mask()
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.search.hit import Hit, Place
from zeroseg.search.query import Filters, Query, parse_query
from zeroseg.search.reduced import ROUNDING, Reduced, keep_reduced, load_reduced, reduce_rows
from zeroseg.search.store import SEGMENTS, Store
from zeroseg.segment.labels import label_pack
from zeroseg.segment.scores import score_directions, segment_scores, unit
from zeroseg.words import LabelPack

_KEPT_FROM = 5_000  # images; from this number on, the reduced vectors are stored on disk
EXACT_MAX = 200_000  # images; up to this number all are compared, unless the caller decides otherwise
_CANDIDATES = 6  # segments requested from the index per wanted image
_COMPARED = 4096  # candidates whose whole vectors are read at once
_FETCHED = 256  # images whose rows are read at once
_NAMES = (
    "image segment vector area box map rows columns path file offset size sha256 height width taken position_s"
).split()


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
        self._table: tuple | None = None

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
        if first is not None and k < len(order) <= _COMPARED:  # their whole vectors bound them more closely
            lowest[order], highest[order] = self._bounds(query, *self._whole_bounds(order, directions))
            order = order[_candidates(lowest[order], highest[order], threshold, first)]
        hits: list[Hit] = []
        for start in range(0, len(order), _FETCHED):
            some = order[start : start + _FETCHED]
            if len(hits) >= k and sorted((hit.score for hit in hits), reverse=True)[k - 1] >= highest[some[0]]:
                break
            made = self._hits(some, query, pack, threshold)
            hits += [hit for hit in made if not filters.by_area or filters.least <= hit.share <= filters.most]
        return sorted(hits, key=lambda hit: (-hit.score, hit.image))[:k]

    def _bounds(self, query: Query, low_Nm: np.ndarray, high_Nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds, (m,) each, of the query's score for m images, from the bounds for its words."""
        words = {word: i for i, word in enumerate(query.words)}
        limit = np.float32(self.sidecar.threshold)
        return (
            query.combine(lambda word: low_Nm[words[word]], lambda word: high_Nm[words[word]] < limit),
            query.combine(lambda word: high_Nm[words[word]], lambda word: low_Nm[words[word]] < limit),
        )

    def _whole_bounds(self, at: np.ndarray, directions_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Like Reduced.bounds(), but for a few images and from their complete vectors."""
        table = self.store.rows(self._rows(at), ["image", "vector"])
        numbers, vectors = np.asarray(table["image"]), _vectors(table)
        by_image = np.argsort(numbers, kind="stable")
        starts = np.flatnonzero(np.diff(numbers[by_image], prepend=-1))
        best_Nm = np.empty((len(directions_ND), len(at)), np.float32)
        to = np.argsort(self._state.reduced.images[at])
        best_Nm[:, to] = np.maximum.reduceat((directions_ND @ vectors.T)[:, by_image], starts, axis=1)
        return best_Nm - ROUNDING, best_Nm + ROUNDING

    def _rows(self, at: np.ndarray) -> np.ndarray:
        """Row ids of all segments of images, by the images' indices in the reduced arrays."""
        reduced = self._state.reduced
        return np.concatenate([reduced.rows[reduced.first[i] : reduced.first[i + 1]] for i in at])

    def _is_large(self, version: int) -> bool:
        """Whether to use the index: it exists, and there are many images."""
        if self._large is None or self._large[0] != version:
            self._large = version, self.store.has_index() and len(self) > EXACT_MAX
        return self._large[1]

    def _by_index(self, query: Query, pack: LabelPack, k: int, threshold: float, filters: Filters) -> list[Hit]:
        """ranked() among the candidates that LanceDB's index gives for each wanted word."""
        count, wanted = _CANDIDATES * k + 100, {query.words.index(word) for word in query.wanted}
        numbers: dict[int, None] = {}
        for i in sorted(wanted):
            numbers |= dict.fromkeys(self.store.nearest(self._directions(pack)[i], count, filters.sql()))
        if not numbers:
            return []
        hits = self._made(self.store.images([*numbers], _NAMES), query, pack, threshold)
        hits = [hit for hit in hits if not filters.by_area or filters.least <= hit.share <= filters.most]
        return sorted(hits, key=lambda hit: (-hit.score, hit.image))[:k]

    def like(self, image: int, segment: int, k: int = 20) -> list[tuple[Hit, int]]:
        """Images with the segments most similar to one segment: (hit, its best segment), best first.

        A hit's score is the cosine of the two embeddings; it has no words. A large collection with an index gives the
        best of the index's candidates.
        """
        version = self.look()
        [vector] = self.vectors(image)[segment : segment + 1]
        direction = unit(vector[None])
        if self._is_large(version):
            numbers = self.store.nearest(direction[0], _CANDIDATES * k + 100, None)
            hits = self._made(self.store.images(numbers, _NAMES), None, None, 0.0)
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
            hits = self._made(self.store.images([image], _NAMES), None, None, 0.0)
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
            self._table = None
            self._state = _State(version, self._reduce(version))
        return self._state

    def _reduce(self, version: int) -> Reduced:
        folder = None if self.store.remote else Path(self.store.path)
        if folder is not None and (kept := load_reduced(folder, version)) is not None:
            return kept
        dim = self.sidecar.embedding_dim

        def batches():
            for batch in self.store.scan(SEGMENTS, ["image", "vector"], row_ids=True):
                vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
                yield np.asarray(batch["image"]), np.asarray(batch["_rowid"]).astype(np.int64), vectors

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
        if self._table is None:
            import pyarrow as pa

            table = pa.Table.from_batches(list(self.store.scan(SEGMENTS, ["image", "path", "taken"], "segment = 0")))
            self._table = table.sort_by("image")
        return filters.fitting(self._table["path"], self._table["taken"])

    def _hits(self, at: np.ndarray, query: Query | None, pack: LabelPack | None, threshold: float) -> list[Hit]:
        """Complete hits of images by their index in the reduced arrays; with a query, only those that match it."""
        return self._made(self.store.rows(self._rows(at), _NAMES), query, pack, threshold)

    def _made(self, table, query: Query | None, pack: LabelPack | None, threshold: float) -> list[Hit]:
        """Hits of an Arrow table with all rows of some images."""
        vectors = _vectors(table)
        by_image: dict[int, list[dict]] = {}
        for row, vector in zip(table.drop_columns(["vector"]).to_pylist(), vectors, strict=True):
            row["vector"] = vector
            by_image.setdefault(row["image"], []).append(row)
        shown = None if pack is None else pack.pick(query.wanted)
        hits = []
        for segments in by_image.values():
            segments.sort(key=lambda row: row["segment"])
            embeddings = np.stack([row["vector"] for row in segments])
            score, scores = 0.0, {}
            if query is not None:
                score, scores = self._score(embeddings, query, pack)
                if not score >= np.float32(threshold):
                    continue
            hits.append(self._hit(segments, embeddings, score, scores, shown, threshold))
        return hits

    def _score(self, embeddings: np.ndarray, query: Query, pack: LabelPack) -> tuple[float, dict[str, float]]:
        """The exact score of an image for a query, and that of each wanted word."""
        best = dict(zip(query.words, segment_scores(embeddings, pack.vectors, self.sidecar.scoring).max(0)))
        limit = np.float32(self.sidecar.threshold)
        score = query.combine(lambda word: best[word][None], lambda word: best[word][None] < limit)
        return float(score[0]), {word: float(best[word]) for word in query.wanted}

    def _hit(self, segments: Sequence[dict], embeddings, score, scores, pack, threshold) -> Hit:
        first = segments[0]
        place = Place(
            first["path"],
            os.fsdecode(first["file"]),
            first["offset"],
            first["size"],
            first["position_s"],
            self.roots,
        )
        return Hit(
            image=first["image"],
            place=place,
            score=score,
            scores=scores,
            taken=first["taken"],
            position_s=first["position_s"],
            size=(first["height"], first["width"]),
            sha256=first["sha256"],
            areas=np.array([row["area"] for row in segments]),
            boxes=np.array([row["box"] for row in segments]),
            packed=([row["map"] for row in segments], (first["rows"], first["columns"])),
            embeddings=embeddings,
            pack=pack,
            threshold=threshold,
            sidecar=self.sidecar,
        )


def _vectors(table) -> np.ndarray:
    """(n, D) float32 of an Arrow table's vectors."""
    return table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1).astype(np.float32)


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
