"""What bench/kernels.py times on the CPU: each kernel, and what a program would use without it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

PHOTO = Path(__file__).resolve().parent.parent / "docs" / "photos" / "chelsea.jpg"
FULL_HD = (1080, 1920)
MAPS_SIZE = (20, 36)  # of the bundled model on a 16:9 photo
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class Contest(NamedTuple):
    op: str
    impl: str
    case: str
    bytes_moved: int
    flops: int  # of the plain formula, each value of the result from its neighbours
    ours: Callable[[], object]
    contenders: dict[str, Callable[[], object]]


def contests(full: bool):
    yield from decode_contests(full)
    yield from guided()
    yield from dense_contests(full)
    yield from preprocess_contests(full)
    yield from tint_contests()
    yield from products_contests()


def model_maps() -> np.ndarray:
    """The bundled model's (K, h, w) maps of a photo, at the size it has on a 16:9 frame."""
    from PIL import Image

    from zeroseg.segment.segmenter import Segmenter

    segmenter = Segmenter.load()
    photo = np.asarray(Image.open(PHOTO).convert("RGB").resize((640, 360)))
    tensor = preprocess_op()(photo, tuple(16 * side for side in MAPS_SIZE), MEAN, MEAN)
    return segmenter.runner.run(tensor[None])["segment_maps"][0]


def preprocess_op():
    from zeroseg.kernels.preprocess import preprocess

    return preprocess


def noise_maps(segments: int) -> np.ndarray:
    """Soft maps in which every place is independent of its neighbours: the most winners there can be."""
    logits = 3 * np.random.default_rng(segments).normal(size=(segments, *MAPS_SIZE)).astype(np.float32)
    exponent = np.exp(logits - logits.max(0))
    return exponent / exponent.sum(0)


def decode_cost(count: int) -> tuple[int, int]:
    """Bytes and operations of decoding `count` maps to full HD: two products, a sum and a comparison per value."""
    from zeroseg.kernels.mask_decode.cases import Case

    return Case(count, MAPS_SIZE, FULL_HD).bytes_moved, 4 * count * FULL_HD[0] * FULL_HD[1]


def decode_contests(full: bool):
    import cv2
    import torch

    from zeroseg.kernels.mask_decode import mask_decode

    def by_torch(logits):
        tensor = torch.from_numpy(logits)[None]
        return lambda: torch.nn.functional.interpolate(tensor, size=size, mode="bilinear").argmax(1)

    def by_opencv(maps):
        channels_last = np.ascontiguousarray(maps.transpose(1, 2, 0))
        return lambda: cv2.resize(channels_last, size[::-1], interpolation=cv2.INTER_LINEAR).argmax(2)

    size, real = FULL_HD, model_maps()
    for kind, maps in (("model", real), ("noise", noise_maps(len(real)))):
        table = np.arange(len(maps)) - 1
        contenders = {"OpenCV resize + NumPy argmax": by_opencv(maps), f"torch, {len(maps)} segments": by_torch(maps)}
        # without segments every label has a map at full size
        contenders |= {f"torch, {count} labels": by_torch(noise_maps(count)) for count in (21, 171)}
        if kind == "noise" and not full:
            contenders = {"OpenCV resize + NumPy argmax": contenders["OpenCV resize + NumPy argmax"]}
        yield Contest(
            "mask_decode",
            "native",
            f"1080p, {kind} maps",
            *decode_cost(len(maps)),
            lambda maps=maps, table=table: mask_decode(maps, table, size, "native"),
            contenders,
        )
    few, many = np.arange(len(real)) % 2, np.linspace(0, 1199, len(real)).astype(int)
    yield Contest(
        "mask_decode",
        "native",
        "1080p, 1200 labels",
        *decode_cost(len(real)),
        lambda: mask_decode(real, many, size, "native"),
        {"itself, 2 labels": lambda: mask_decode(real, few, size, "native")},
    )


def guided():
    from PIL import Image

    from zeroseg.bench.kernels_guided import guided_contests

    photo = np.asarray(Image.open(PHOTO).convert("RGB").resize(FULL_HD[::-1]))
    yield from (Contest(**fields) for fields in guided_contests(photo, model_maps()))


def dense_contests(full: bool):
    import torch

    from zeroseg.kernels.mask_decode import dense_decode

    for count in (21, 171) if full else (21,):
        logits = noise_maps(count)
        tensor = torch.from_numpy(logits)[None]
        yield Contest(
            "dense_decode",
            "native",
            f"1080p, {count} labels, noise",
            *decode_cost(count),
            lambda logits=logits: dense_decode(logits, FULL_HD, "native"),
            {
                "torch interpolate + argmax": lambda tensor=tensor: torch.nn.functional.interpolate(
                    tensor, size=FULL_HD, mode="bilinear"
                ).argmax(1)
            },
        )


def preprocess_contests(full: bool):
    import cv2
    import torch
    from PIL import Image
    from torchvision.transforms.v2 import functional as TF

    from zeroseg.kernels.preprocess.cases import Case

    preprocess = preprocess_op()
    image = np.asarray(Image.open(PHOTO).convert("RGB").resize(FULL_HD[::-1]))
    chw = torch.from_numpy(image.copy()).permute(2, 0, 1)
    scale, offset = np.float32(1 / (255 * np.array(STD))), np.float32(np.array(MEAN) / np.array(STD))
    for size in ((448, 448), (320, 576), (224, 224)) if full else ((448, 448),):

        def by_opencv(size=size):
            small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
            return np.ascontiguousarray((small * scale - offset).transpose(2, 0, 1))

        def by_torchvision(size=size):
            small = TF.resize(chw, list(size), antialias=True)
            return TF.normalize(TF.to_dtype(small, torch.float32, scale=True), MEAN, STD)

        yield Contest(
            "preprocess",
            "native",
            f"1080p to {size[1]}x{size[0]}",
            Case(FULL_HD, size).bytes_moved,
            2 * 2 * 3 * FULL_HD[0] * (FULL_HD[1] + size[1]),  # two taps a photo value down, then across
            lambda size=size: preprocess(image, size, MEAN, STD, "native"),
            {
                "Pillow resize + NumPy": lambda size=size: preprocess(image, size, MEAN, STD, "reference"),
                "Pillow resize alone": lambda size=size: Image.fromarray(image).resize(
                    size[::-1], Image.Resampling.BILINEAR
                ),
                "torchvision": by_torchvision,
                "OpenCV area + NumPy": by_opencv,
            },
        )


def tint_contests():
    import cv2

    from zeroseg.kernels.tint import tint
    from zeroseg.kernels.tint.cases import CASES

    case = CASES["full_hd"]
    image = np.random.default_rng(0).integers(0, 256, (*case.size, 3), np.uint8)
    maps = model_maps()
    label_map = (
        cv2.resize(maps.argmax(0).astype(np.uint8), case.size[::-1], interpolation=cv2.INTER_NEAREST).astype(np.int16)
        - 1
    )
    colors = np.random.default_rng(1).integers(0, 256, (len(maps), 3), np.uint8)
    reach = np.ones((2 * case.outline_px + 1,) * 2, np.uint8)

    def by_opencv():
        coloured = colors[label_map]
        picture = cv2.addWeighted(image, 0.5, coloured, 0.5, 0)
        edge = cv2.morphologyEx((label_map + 1).astype(np.uint8), cv2.MORPH_GRADIENT, reach) > 0
        picture[edge] = coloured[edge]
        return np.where((label_map < 0)[..., None], image, picture)

    yield Contest(
        "tint",
        "native",
        "1080p, outlined",
        case.bytes_moved,
        4 * 3 * case.size[0] * case.size[1],
        lambda: tint(image, label_map, colors, 0.5, case.outline_px, "native"),
        {
            "OpenCV + NumPy": by_opencv,
            "NumPy": lambda: tint(image, label_map, colors, 0.5, case.outline_px, "reference"),
        },
    )


def products_contests():
    from zeroseg.kernels.best_products import best_products
    from zeroseg.kernels.best_products.cases import CASES

    case = CASES["model"]
    vectors, first, directions = case.draw(np.random.default_rng(0))
    floats, float_directions = vectors[2:-1].astype(np.float32), directions.astype(np.float32)
    yield Contest(
        "best_products",
        "native",
        f"{case.groups:,} images",
        vectors.nbytes + first.nbytes + 4 * case.directions * case.groups,
        2 * vectors.size * case.directions,
        lambda: best_products(vectors, first, directions, "native"),
        {
            "NumPy, float32 vectors": lambda: np.maximum.reduceat(
                float_directions @ floats[2:-1].T, first[:-1] - 2, axis=1
            ),
            "NumPy": lambda: best_products(vectors, first, directions, "reference"),
        },
    )
