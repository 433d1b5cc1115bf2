"""The search page of zeroseg-serve --collection: a search box, and a grid of pictures with their masks.

A request names a picture by its number in the collection, never by a path. The answer is a decoded picture with masks,
or a video file. Files outside the collection's folders are not served; links are resolved before this check.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from threading import Lock, Semaphore
from typing import Annotated

import numpy as np
from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.background import BackgroundTask

from zeroseg import __version__
from zeroseg.errors import ZerosegError
from zeroseg.kernels._threads import available_threads, one_thread
from zeroseg.live.answers import answer_head, answer_wrong_input
from zeroseg.live.guard import Guard
from zeroseg.live.page_files import add_page_files
from zeroseg.live.picture import to_jpeg
from zeroseg.live.search_drawing import Copy, side_by_side
from zeroseg.search.collection import Collection
from zeroseg.search.hit import Hit
from zeroseg.search.query import parse_query
from zeroseg.search.thumbnails import SIDE_PX, Thumbnails
from zeroseg.segment.labels import label_pack
from zeroseg.words import LabelPack

LARGE_PX = 1600  # long side of an open picture
COUNT_MAX, WORDS_MAX = 500, 400
_KEPT = 400  # decoded photos that are kept; a large one counts as many small ones, by its pixels
_CHECKED_S = 1.0  # shortest time between two checks of the table for changes
_SIDE_STEP = 16  # px; sizes of small pictures are rounded up to a multiple, so that few are kept twice
_AT_ONCE = 100  # pictures in one row
_QUALITY = 85

Words = Annotated[str, Query(max_length=WORDS_MAX)]
Count = Annotated[int, Query(ge=1, le=COUNT_MAX)]
Number = Annotated[int, Query(ge=0)]
Numbers = Annotated[list[Number], Query(min_length=1, max_length=_AT_ONCE)]
Segment = Annotated[int, Query(ge=0, le=1000)]
Segments = Annotated[list[Segment], Query(max_length=_AT_ONCE)]
Side = Annotated[int, Query(ge=32, le=1024, description="long side of a picture, in px; at least 240")]


class _Searched:
    """The collection for several threads; it keeps the vectors of the last words and the last photos."""

    def __init__(self, collection: Collection, text: str):
        self.collection, self._text, self._lock = collection, text, Lock()
        self._hits: OrderedDict[int, Hit] = OrderedDict()  # of the last answers, by the picture's number
        self._version, self._checked_s = -1, -1.0  # of the table when its version was last read, and when that was
        self._photos: OrderedDict[tuple[int, int, bytes], Copy] = OrderedDict()
        self._thumbnails = None if collection.store.remote else Thumbnails(collection.store.path)
        self._turns = Semaphore(available_threads())  # of drawing; as many rows at a time, the first ones first
        self._pack = lru_cache(maxsize=64)(lambda words: label_pack(parse_query(words).words, collection.sidecar, text))

    def warm(self) -> None:
        """Read and import now what the first search would: a second or less."""
        try:
            for hit in self.collection.search("thing", 1, threshold=-2.0, text=self._text):
                self.row([hit.image], SIDE_PX, lambda copy, place, pack=hit.pack: copy.with_words(pack))
        except (ZerosegError, ValueError, HTTPException):  # requests report it
            pass

    def pack(self, words: str) -> LabelPack:
        """The vectors of all words of a query. Raises HTTPException 422 with one line for a bad query."""
        try:
            return self._pack(words)
        except (ZerosegError, ValueError) as error:
            raise HTTPException(422, str(error)) from error

    def find(self, words: str, count: int) -> list[Hit]:
        pack = self.pack(words)
        with self._lock:
            hits = self.collection.ranked(parse_query(words), pack, count)
            self._keep(hits)
        return hits

    def like(self, image: int, segment: int, count: int) -> list[tuple[Hit, int]]:
        hit = self.hit(image)
        if segment >= len(hit.areas):
            raise HTTPException(404, f"picture {image} has {len(hit.areas)} segments, and no segment {segment}")
        with self._lock:
            found = self.collection.like(image, segment, count)
            self._keep([hit for hit, _ in found])
        return found

    def read_maps(self, hits: list[Hit]) -> None:
        """Read the maps of an answer before the page asks for its pictures."""
        with suppress(ZerosegError):  # the pictures' requests report it
            for hit in hits[:1]:
                hit.maps.of(hit.image)

    def hit(self, image: int) -> Hit:
        """A picture. Raises HTTPException 404 if it does not exist or its file is outside the collection's folders."""
        with self._lock:
            try:
                hit = self._known(image) or self.collection.hit(image)
            except ZerosegError as error:
                raise HTTPException(404, str(error)) from error
        real = os.path.realpath(hit.place.real_file)
        roots = [self.collection.roots.get(source, source) for source in self.collection.sources]
        if not any(
            real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in map(os.path.realpath, roots)
        ):
            raise HTTPException(404, f"picture {image}: its file is outside the collection's folders")
        return hit

    def _keep(self, hits: list[Hit]) -> None:
        """Keep the answer's pictures, so that their rows are not read again for each request of the page."""
        self._drop_old(self.collection.version)
        self._hits.update((hit.image, hit) for hit in hits)
        while len(self._hits) > 2 * COUNT_MAX:
            self._hits.popitem(last=False)

    def _known(self, image: int) -> Hit | None:
        """A picture of the last answers, unless the table has changed since."""
        if time.monotonic() - self._checked_s > _CHECKED_S:
            self._drop_old(self.collection.look())
        return self._hits.get(image)

    def _drop_old(self, version: int) -> None:
        """Drop pictures that were kept from another version of the table."""
        if version != self._version:
            self._hits.clear()
        self._version, self._checked_s = version, time.monotonic()

    def copy(self, image: int, side_px: int) -> Copy:
        """A copy of the picture. Raises HTTPException 404 if its file can no longer be read."""
        try:
            return self._copy(self.hit(image), side_px)
        except ZerosegError as error:
            raise HTTPException(404, str(error)) from error

    def _copy(self, hit: Hit, side_px: int) -> Copy:
        key = (hit.image, side_px, hit.sha256)
        with self._lock:
            if key in self._photos:
                self._photos.move_to_end(key)
                return self._photos[key]
        made = Copy(hit.small(side_px, self._thumbnails), edges=side_px == LARGE_PX)
        with self._lock:
            self._photos[key] = made
            while sum((side_px / SIDE_PX) ** 2 for _, side_px, _ in self._photos) > _KEPT:
                self._photos.popitem(last=False)
        return made

    def row(self, images: list[int], side_px: int, draw: Callable[[Copy, int], np.ndarray]) -> bytes:
        """A JPEG file of pictures side by side, see side_by_side(); draw() gets each copy and its place in the row.

        The place of a picture that cannot be read stays empty. Raises HTTPException 404 if this holds for all.
        """
        drawn, wrong = [None] * len(images), []
        with self._turns, one_thread():  # a thread for each processor
            for place, image in enumerate(images):
                try:
                    drawn[place] = draw(self.copy(image, side_px), place)
                except HTTPException as error:
                    wrong.append(error)
            if len(wrong) == len(images):
                raise wrong[0]
            return to_jpeg(side_by_side(drawn, side_px), _QUALITY)


def add_search(app: FastAPI, collection: Collection, text: str = "auto") -> None:
    """Add the page at /search and its API below /search/."""
    searched = _Searched(collection, text)
    searched.warm()
    add_page_files(app, {"/search": "search.html", "/search.css": "search.css", "/search.js": "search.js"})

    @app.get("/search/about", summary="The collection: pictures, model, threshold")
    def about() -> dict:
        return {
            "images": len(collection),
            "model": collection.sidecar.name,
            "threshold": collection.sidecar.threshold,
        }

    @app.get("/search/find", summary='Pictures by words: "dog, cat" any, "dog+person" all, "a-b" without')
    def find(words: Words, count: Count = 40) -> Response:
        hits, pack = searched.find(words, count), searched.pack(words)
        document = {
            "words": [
                {"word": word, "mark": mark, "nearest": list(near[:3])}
                for word, mark, near in zip(pack.names, pack.marks, pack.nearest, strict=True)
            ],
            "hits": [_document(hit, f"words={_quoted(words)}") for hit in hits],
        }
        # FastAPI's own way takes longer than the search in a small collection
        return JSONResponse(document, background=BackgroundTask(searched.read_maps, hits))

    @app.get("/search/like", summary="Pictures with the segments most similar to one")
    def like(image: Number, segment: Segment, count: Count = 40) -> Response:
        hits = [
            _document(hit, f"segment={nearest}") | {"segment": nearest}
            for hit, nearest in searched.like(image, segment, count)
        ]
        return JSONResponse({"words": [], "hits": hits})

    @app.get("/search/at", summary="The segment at a point of a picture; x and y as shares of its width and height")
    def at(image: Number, x: Annotated[float, Query(ge=0, le=1)], y: Annotated[float, Query(ge=0, le=1)]) -> dict:
        label_map = searched.copy(image, LARGE_PX).of_segments
        height, width = label_map.shape
        return {"segment": int(label_map[min(height - 1, int(y * height)), min(width - 1, int(x * width))])}

    @app.get("/search/picture", summary="A picture with the masks drawn", response_class=Response)
    def picture(image: Number, words: Words | None = None, segment: Segment | None = None):
        copy = searched.copy(image, LARGE_PX)
        if words is not None:
            drawn = copy.with_words(wanted(words))
        else:
            drawn = copy.segments.image if segment is None else copy.with_segment(segment)
        return Response(to_jpeg(drawn, _QUALITY), media_type="image/jpeg")

    @app.get("/search/row", summary="Small pictures side by side, with the masks of words, or of one segment each")
    def row(image: Numbers, words: Words | None = None, segment: Segments = (), side: Side = SIDE_PX) -> Response:
        if words is None and len(segment) != len(image):
            raise HTTPException(422, f"expected words or {len(image)} segments, got {len(segment)} segments")
        side = max(SIDE_PX, -(-side // _SIDE_STEP) * _SIDE_STEP)
        if words is not None:
            pack = wanted(words)
            drawn = searched.row(image, side, lambda copy, place: copy.with_words(pack))
        else:
            drawn = searched.row(image, side, lambda copy, place: copy.with_segment(segment[place]))
        return Response(drawn, media_type="image/jpeg")

    def wanted(words: str) -> LabelPack:
        return searched.pack(words).pick(parse_query(words).wanted)

    @app.get("/search/video", summary="The video of a picture", response_class=FileResponse)
    def video(image: Number):
        hit = searched.hit(image)
        if hit.position_s is None:
            raise HTTPException(404, f"picture {image} is not from a video")
        if not os.path.isfile(hit.place.real_file):
            raise HTTPException(404, f"{hit.path}: no longer exists")
        return FileResponse(hit.place.real_file)


def make_search_app(collection: Collection, token: str | None = None, any_host: bool = False, text: str = "auto"):
    """The application of a server that only serves a collection. Arguments as for Guard and add_search."""
    app = FastAPI(title="zeroseg", version=__version__, docs_url=None, redoc_url=None)
    add_page_files(app, {"/page.css": "page.css"})

    @app.get("/", include_in_schema=False)
    def front():
        return RedirectResponse("/search", 307)

    @app.get("/healthz", summary="Health of the server")
    def healthz() -> dict:
        return {"status": "ok", "version": __version__}

    add_search(app, collection, text)
    answer_wrong_input(app)
    answer_head(app, {})
    return Guard(app, token, any_host)


def _document(hit: Hit, query: str) -> dict:
    shown = {"share": round(hit.share, 4), "box": list(hit.box)} if hit.pack is not None else {}
    best = None
    if hit.pack is not None:
        best = int(np.where(hit.found, hit.segment_scores.max(1), -np.inf).argmax())
    return {
        "image": hit.image,
        "path": hit.path,
        "time": hit.time,
        "position_s": hit.position_s,
        "score": round(hit.score, 4),
        "scores": {word: round(score, 4) for word, score in hit.scores.items()},
        "size": list(hit.size),
        "segment": best,
        "picture": f"/search/picture?image={hit.image}&{query}",
        **shown,
    }


def _quoted(words: str) -> str:
    from urllib.parse import quote

    return quote(words, safe="")
