"""The operators of torch.library: what torch asks of them, and that that torch.compile keeps them whole."""

import pytest

torch = pytest.importorskip("torch")

from zeroseg.kernels.mask_decode import Overlay  # noqa: E402
from zeroseg.kernels.mask_decode.batch import mask_decode_batch  # noqa: E402
from zeroseg.kernels.mask_decode.torch_op import mask_decode_op  # noqa: E402
from zeroseg.kernels.preprocess.batch import preprocess_batch  # noqa: E402
from zeroseg.kernels.preprocess.torch_op import preprocess_op  # noqa: E402

MAPS = torch.rand(2, 5, 7, 9, generator=torch.Generator().manual_seed(0))
TABLE = torch.tensor([[3, -1, 0, 2, 1], [0, 0, 1, 2, -1]])
PHOTOS = torch.arange(2 * 13 * 17 * 3, dtype=torch.int64).remainder(251).to(torch.uint8).view(2, 13, 17, 3)
COLORS = torch.tensor([[255, 0, 0], [0, 255, 0], [7, 8, 9]], dtype=torch.uint8)


@pytest.mark.parametrize(
    "arguments",
    [
        (MAPS, TABLE, 13, 17, "int16", 0.3, PHOTOS, COLORS, 0.4, "reference"),
        (MAPS, None, 20, 11, "uint16", None, None, None, 0.5, "reference"),
    ],
    ids=["overlay", "dense"],
)
def test_mask_decode(arguments):
    torch.library.opcheck(mask_decode_op, arguments)
    maps, table, height, width, kind, threshold, image, colors, alpha, impl = arguments
    truth = mask_decode_batch(
        maps,
        table,
        (height, width),
        impl,
        label_dtype=kind,
        threshold=float("-inf") if threshold is None else threshold,
        overlay=None if image is None else Overlay(image, colors, alpha),
    )
    compiled = torch.compile(lambda maps: mask_decode_op(2 * maps / 2, *arguments[1:]), backend="eager", fullgraph=True)
    for got, wanted in zip(compiled(maps), truth):
        assert (
            got.dtype == wanted.dtype
            and (got.int() == wanted.int() if got.dtype == torch.uint16 else got == wanted).all()
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_preprocess(dtype):
    arguments = (PHOTOS, 6, 8, [0.5, 0.4, 0.3], [0.25, 0.5, 1.0], "bgr", dtype, "reference")
    torch.library.opcheck(preprocess_op, arguments)
    truth = preprocess_batch(PHOTOS, (6, 8), *arguments[3:5], "reference", order="bgr", dtype=dtype)
    compiled = torch.compile(lambda photos: preprocess_op(photos, *arguments[1:]) * 2, backend="eager", fullgraph=True)
    assert torch.equal(compiled(PHOTOS), truth * 2)
