"""preprocess on batches of tensors: against torch's antialiased interpolate and against Pillow, on cases.py."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from zeroseg.kernels import _triton  # noqa: E402
from zeroseg.kernels._dispatch import last_impl  # noqa: E402
from zeroseg.kernels.preprocess import triton_impl  # noqa: E402
from zeroseg.kernels.preprocess.batch import preprocess_batch  # noqa: E402
from zeroseg.kernels.preprocess.cases import CASES, MEAN, STD  # noqa: E402

pytestmark = pytest.mark.usefixtures("poison_torch")

LEVEL = 1.01 / 255  # Pillow rounds to uint8 after each of its two passes
EXACT = 3e-6  # against the same filter without rounding, in [0, 1]
IMPLS = ["triton", "reference"]


def photos(batch, height, width, device):
    return torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8).to(device)


def by_torch(images, size):
    """The same resize without rounding, (B, 3, h, w) in [0, 1]."""
    chw = images.permute(0, 3, 1, 2).double() / 255
    return torch.nn.functional.interpolate(chw, size=size, mode="bilinear", align_corners=False, antialias=True)


def check(images, size, impl, order="rgb", dtype=torch.float32):
    out = preprocess_batch(images, size, MEAN, STD, impl, order=order, dtype=dtype)
    assert last_impl("preprocess_batch") == impl
    assert out.dtype == dtype and out.shape == (len(images), 3, *size) and out.is_contiguous()
    back = out.double() * out.new_tensor(STD).double().view(3, 1, 1) + out.new_tensor(MEAN).double().view(3, 1, 1)
    expected = by_torch(images.flip(-1) if order == "bgr" else images, size)
    atol = LEVEL if impl == "reference" else EXACT if dtype == torch.float32 else 1e-3
    torch.testing.assert_close(back, expected, atol=atol, rtol=0)
    return out


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("name", CASES)
def test_matches_torch(name, impl, device, monkeypatch):
    case, batch = CASES[name], 1 if name in ("vga", "full_hd") else 2
    if _triton.interpreted() and name != "prime":  # its time goes by the number of tiles; prime has the GPU's
        tile = (128, 1024) if batch == 1 else (32, 128)
        monkeypatch.setattr(triton_impl, "LAUNCH", triton_impl.Launch(*tile, num_warps=4))
        if name == "full_hd":  # and then by the rows: a quarter of them at the same scale, and all columns
            case = case._replace(photo_size=(case.photo_size[0] // 4, 1920), input_size=(case.input_size[0] // 4, 576))
    check(photos(batch, *case.photo_size, device), case.input_size, impl)


@pytest.mark.parametrize("name", ["prime", "enlarge", "one_axis", "thin"])
def test_matches_pillow(name, device):
    case = CASES[name]
    images = photos(1, *case.photo_size, device)
    got, pillow = (preprocess_batch(images, case.input_size, MEAN, STD, impl) for impl in IMPLS)
    std = got.new_tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(got * std, pillow * std, atol=LEVEL, rtol=0)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    "view",
    [
        lambda images: images[:, :, ::2],
        lambda images: images[:, 3:, 5:],
        lambda images: images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        lambda images: images.transpose(1, 2),
    ],
    ids=["strided", "cropped", "planar", "transposed"],
)
def test_accepts_views(view, impl, device):
    check(view(photos(2, 50, 70, device)), (32, 48), impl)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_bgr_and_dtype(impl, dtype, device):
    images = photos(1, 31, 29, device)
    bgr = check(images, (16, 32), impl, order="bgr", dtype=dtype)
    rgb = check(images.flip(-1), (16, 32), impl, dtype=dtype)
    torch.testing.assert_close(bgr, rgb, atol=0, rtol=0)


IMAGES = torch.zeros(1, 4, 5, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("images", "size", "options", "message"),
    [
        (IMAGES[0], (8, 8), {}, r"images: expected \(B, H, W, 3\) uint8, got \(4, 5, 3\)"),
        (IMAGES.float(), (8, 8), {}, "got .* float32"),
        (IMAGES[:, :0], (8, 8), {}, "no empty axis"),
        (IMAGES, (8, 0), {}, "size: expected"),
        (IMAGES, (8, 8), {"std": (1, 1, 0)}, "std positive"),
        (IMAGES, (8, 8), {"std": (1, 1)}, "three values each"),
        (IMAGES, (8, 8), {"order": "rbg"}, "order: expected rgb or bgr"),
        (IMAGES, (8, 8), {"dtype": torch.int8}, "dtype: expected torch.float32"),
        (IMAGES, (8, 8), {"impl": "fastest"}, "impl must be one of"),
    ],
)
def test_bad_input_is_named(images, size, options, message):
    with pytest.raises(ValueError, match=message):
        preprocess_batch(images, size, MEAN, **{"std": STD, **options})
