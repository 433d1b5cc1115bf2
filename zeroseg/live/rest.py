"""POST /segment: masks of a picture for given words. Limits are checked before decoding."""

import asyncio
import base64
import math
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from threading import Lock

import numpy as np
from fastapi import HTTPException

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.live.picture import to_jpeg
from zeroseg.segment.encoded import Encoded
from zeroseg.segment.segmentation import Segmentation
from zeroseg.segment.segmenter import Segmenter
from zeroseg.serving.photo_bytes import PIXEL_LIMIT, TooLarge, decode_photo
from zeroseg.words import LabelPack, split_words

LABELS_MAX, LABEL_LENGTH_MAX = 200, 100
OVERLAY_QUALITY = 90  # of the JPEG inside the JSON; format=overlay is lossless
WAITING_MAX = 8  # requests that wait for the network; more get 503
KEPT_PHOTOS, KEPT_PIXELS = 4, 1 << 26  # of encoded photos in memory; 3 bytes a pixel


class Photos:
    """Segments single photos, independently of the live picture.

    segmenter  shares its runner with the pipeline; its labels are not changed.
    at_once    photos processed at the same time; more than one only if the runner is thread-safe.
    waiting    photos processed and queued; more are refused.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        text: str = "auto",
        pixel_limit: int = PIXEL_LIMIT,
        at_once: int = 1,
        waiting: int = WAITING_MAX,
    ):
        self._segmenter, self._text, self._pixel_limit = segmenter, text, pixel_limit
        self._pool = ThreadPoolExecutor(at_once, "zeroseg-photos")
        self._waiting, self._waiting_max = 0, waiting
        self.requests = 0
        self._embedded = lru_cache(maxsize=16)(self._embed)  # clients send the same words with photo after photo
        self._kept = KeptPhotos()

    async def segment(self, data: bytes, pack: LabelPack, threshold: float | None) -> Segmentation:
        """Decode and segment a photo. Raises HTTPException with one line if it cannot."""
        if self._waiting >= self._waiting_max:
            raise HTTPException(503, "too many photos at once; try again", {"Retry-After": "1"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._work, data, pack, threshold)
        except UnavailableError as error:
            raise HTTPException(503, str(error), {"Retry-After": "2"}) from error
        except ZerosegError as error:
            raise HTTPException(500, str(error)) from error
        finally:
            self._waiting -= 1
            self.requests += 1

    def _work(self, data: bytes, pack: LabelPack, threshold: float | None) -> Segmentation:
        digest = sha256(data).digest()
        encoded = self._kept.get(digest)
        if encoded is None:
            encoded = self._segmenter.encode(read_picture(data, self._pixel_limit))
            self._kept.put(digest, encoded)
        return encoded.masks(pack, threshold)

    def pack(self, labels: str | list[str]) -> LabelPack:
        """The pack of words from a line or a list. Raises HTTPException 422 with one line if they are wrong."""
        names = split_words(labels) if isinstance(labels, str) else [name.strip() for name in labels if name.strip()]
        if not 1 <= len(names) <= LABELS_MAX or any(len(name) > LABEL_LENGTH_MAX for name in names):
            raise HTTPException(
                422,
                f"labels: expected 1 to {LABELS_MAX} words of at most {LABEL_LENGTH_MAX} letters, separated by commas",
            )
        try:
            return self._embedded(tuple(names))
        except (ZerosegError, ValueError) as error:
            raise HTTPException(422, f"labels: {error}") from error

    def _embed(self, names: tuple[str, ...]) -> LabelPack:
        return self._segmenter.label_pack(list(names), self._text)


class KeptPhotos:
    """The segments of the last photos by the sha256 of their bytes, so that new words need no network run.

    At most KEPT_PHOTOS with KEPT_PIXELS in all; the least recently used is dropped first. Thread-safe.
    """

    def __init__(self):
        self._lock, self._by_digest = Lock(), OrderedDict()

    def get(self, digest: bytes) -> Encoded | None:
        """The kept segments, with zero time for the stages up to the network; None if there are none."""
        with self._lock:
            if digest not in self._by_digest:
                return None
            self._by_digest.move_to_end(digest)
            return self._by_digest[digest]

    def put(self, digest: bytes, encoded: Encoded) -> None:
        """Keep segments, unless the photo alone is too large."""
        if _pixels(encoded) > KEPT_PIXELS:
            return
        with self._lock:
            self._by_digest[digest] = replace(encoded, timings_ms=dict.fromkeys(encoded.timings_ms, 0.0))
            self._by_digest.move_to_end(digest)
            while len(self._by_digest) > KEPT_PHOTOS or sum(map(_pixels, self._by_digest.values())) > KEPT_PIXELS:
                self._by_digest.popitem(last=False)


def _pixels(encoded: Encoded) -> int:
    return encoded.size[0] * encoded.size[1]


def read_picture(data: bytes, pixel_limit: int):
    """(H, W, 3) uint8 RGB; HTTPException 413 for too many pixels (before decoding), 415 if it is not a picture."""
    try:
        return decode_photo(data, pixel_limit)
    except TooLarge as error:
        raise HTTPException(413, str(error)) from error
    except ZerosegError as error:
        raise HTTPException(415, str(error)) from error


def hex_color(color) -> str:
    """Three numbers in [0, 255] as #rrggbb."""
    return "#" + bytes(int(c) for c in color).hex()


def photo_document(result: Segmentation, overlay: bool, alpha: float) -> dict:
    """Segmentation.to_dict(), with each label's colour and mark, and optionally the overlay (data URL of a JPEG)."""
    document = result.to_dict()
    for entry, color, mark in zip(document["labels"], result.colors, result.marks):
        entry |= {"color": hex_color(color), "mark": mark}
        if not math.isfinite(entry["score"]):
            entry["score"] = None
    document["areas"] = {region.label: round(region.area, 6) for region in result.found}
    if overlay:
        jpeg = to_jpeg(np.asarray(result.overlay(alpha, legend=False)), OVERLAY_QUALITY)
        document["overlay"] = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    return document
