"""The CUDA kernels against the references on cases.py: on a GPU where there is one, else their own source compiled for
the CPU (csrc/cuda/emulator.h).

There the threads of a block run upwards and downwards from barrier to barrier: a missing barrier shows as a difference.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from zeroseg.errors import UnavailableError  # noqa: E402
from zeroseg.kernels import _cuda  # noqa: E402
from zeroseg.kernels._dispatch import last_impl  # noqa: E402
from zeroseg.kernels.mask_decode import Overlay  # noqa: E402
from zeroseg.kernels.mask_decode import cases as decode_cases  # noqa: E402
from zeroseg.kernels.mask_decode.batch import mask_decode_batch  # noqa: E402
from zeroseg.kernels.preprocess import cases as preprocess_cases  # noqa: E402
from zeroseg.kernels.preprocess.batch import preprocess_batch  # noqa: E402
from zeroseg.kernels.segment_attention import cases as attention_cases  # noqa: E402
from zeroseg.kernels.segment_attention import segment_attention  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SANITIZED = "ZEROSEG_TEST_SANITIZED"  # set where this file runs under the sanitizers
pytestmark = [
    pytest.mark.usefixtures("poison_torch"),
    pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="needs cmake and a C++ compiler"),
]


def build(folder, *options):
    for command in (
        ["cmake", "-S", ROOT, "-B", folder, "-DZEROSEG_CUDA_EMULATED=ON", f"-DZEROSEG_LIBRARY_DIR={folder}", *options],
        ["cmake", "--build", folder, "--target", "zeroseg_cuda_emulated"],
    ):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    [library] = Path(folder).rglob("*zeroseg_cuda_emulated.*so")
    return library


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return os.environ.get(SANITIZED) or build(tmp_path_factory.mktemp("emulated"))


@pytest.fixture(params=["upwards", "downwards", pytest.param("gpu", marks=pytest.mark.gpu)])
def cuda_library(request, monkeypatch):
    """The library is loaded, and new tensors are where it takes them."""
    torch.manual_seed(0)
    if request.param == "gpu":
        assert _cuda.missing() is None, _cuda.missing()
        torch.set_default_device("cuda")
        yield
        torch.set_default_device(None)
        return
    monkeypatch.setenv("ZEROSEG_CUDA_LIBRARY", str(request.getfixturevalue("built")))
    _cuda._library.cache_clear()
    assert _cuda.missing() is None and _cuda.emulated()
    _cuda._library().zs_emulator_set_order(request.param == "downwards")
    yield
    _cuda._library.cache_clear()


def both(op, *args, **kwargs):
    got = op(*args, impl="cuda", **kwargs)
    assert last_impl(op.__name__) == "cuda"
    return got, op(*args, impl="reference", **kwargs)


@pytest.mark.parametrize("name", preprocess_cases.CASES)
def test_preprocess(name, cuda_library):
    case = preprocess_cases.CASES[name]
    images = torch.randint(0, 256, (1, *case.photo_size, 3), dtype=torch.uint8)
    std = torch.tensor(preprocess_cases.STD).view(3, 1, 1)
    for view, order in ((images, "rgb"), (images, "bgr"), (images.transpose(1, 2), "rgb")):
        for dtype, slack in ((torch.float32, 1e-5), (torch.float16, 2e-3)):
            got, truth = both(
                preprocess_batch,
                view,
                case.input_size,
                preprocess_cases.MEAN,
                preprocess_cases.STD,
                order=order,
                dtype=dtype,
            )
            assert got.dtype == dtype
            torch.testing.assert_close(got.float() * std, truth.float() * std, atol=1.01 / 255 + slack, rtol=0)


def test_preprocess_without_rounding(cuda_library):
    """Against the same filter of torch's, to float32's precision; wide enough for several pieces of a row."""
    images = torch.randint(0, 256, (2, 29, 5000, 3), dtype=torch.uint8)[:, :, 1:]
    got = preprocess_batch(images, (11, 131), (0, 0, 0), (1, 1, 1), "cuda")
    truth = torch.nn.functional.interpolate(
        images.permute(0, 3, 1, 2).double() / 255, size=(11, 131), mode="bilinear", antialias=True
    )
    torch.testing.assert_close(got.double(), truth, atol=3e-6, rtol=0)


@pytest.mark.parametrize("name", decode_cases.CASES)
def test_mask_decode(name, cuda_library):
    case = decode_cases.CASES[name]
    maps = (4 * torch.randn(1, case.segments, *case.maps_size)).softmax(1)
    table = torch.arange(case.segments)[None] - 1
    overlay = Overlay(
        torch.randint(0, 256, (1, *case.photo_size, 3), dtype=torch.uint8),
        torch.randint(0, 256, (3, 3), dtype=torch.uint8),
        0.3,
    )
    for kind in ("uint8", "int16") if name != "full_hd" else ("uint8",):
        got, truth = both(mask_decode_batch, maps, table, case.photo_size, label_dtype=kind, overlay=overlay)
        same = got[0] == truth[0]
        assert same.double().mean() > 0.999
        torch.testing.assert_close(got[1], truth[1], atol=3e-6, rtol=0)
        assert (got[2] == truth[2])[same].all()


@pytest.mark.parametrize("name", decode_cases.CASES)
def test_guided_decode(name, cuda_library):
    case = decode_cases.CASES[name]
    maps = (4 * torch.randn(1, case.segments, *case.maps_size)).softmax(1)
    table = torch.arange(case.segments)[None] - 1
    noise, size = torch.randint(0, 256, (1, 3, 9, 9)).float(), case.photo_size
    guide = torch.nn.functional.interpolate(noise, size=size).to(torch.uint8).permute(0, 2, 3, 1)
    overlay = Overlay(guide, torch.randint(0, 256, (3, 3), dtype=torch.uint8), 0.3)
    for kind in ("uint8", "int16") if name != "full_hd" else ("uint8",):
        got, truth = both(mask_decode_batch, maps, table, size, guide=guide, label_dtype=kind, overlay=overlay)
        same = got[0] == truth[0]
        assert same.double().mean() > 0.999
        torch.testing.assert_close(got[1], truth[1], atol=2e-5, rtol=0)
        assert (got[2] == truth[2])[same].all()


@pytest.mark.parametrize("size", [(1, 40), (37, 2), (60, 61), (90, 95), (179, 200), (181, 131)])
def test_guided_decode_writes_every_row(size, cuda_library):
    maps, guide = torch.randn(2, 3, 5, 8), torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    got, truth = both(mask_decode_batch, maps, None, size, guide=guide, threshold=0.2)
    assert (got[0] == truth[0]).double().mean() > 0.999
    torch.testing.assert_close(got[1], truth[1], atol=2e-5, rtol=0)


@pytest.mark.parametrize("labels", [21, 171, 700])  # the last one is listed in three goes
def test_dense_decode(labels, cuda_library):
    logits = torch.randn(2, labels, 14, 9).transpose(2, 3)
    got, truth = both(mask_decode_batch, logits, None, (61, 83), threshold=2.0)
    assert (got[0] == truth[0]).double().mean() > 0.999
    torch.testing.assert_close(got[1], truth[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", attention_cases.CASES)
def test_segment_attention(name, cuda_library):
    case = attention_cases.CASES[name]
    q = 2 * torch.randn(case.batch, case.groups, case.width)
    k, v = torch.randn(case.batch, case.tokens, case.width + case.values).split([case.width, case.values], -1)
    for cosine, aggregation, seed in [(True, "hard", 0x1234_5678_9ABC_DEF), (False, "soft", 5)]:
        got, truth = both(
            segment_attention,
            q,
            k,
            v,
            cosine=cosine,
            aggregation=aggregation,
            seed=seed,
            scale=10.0 if cosine else None,
        )
        for field in ("soft", "choice", "hard", "pooled"):
            torch.testing.assert_close(getattr(got, field), getattr(truth, field), atol=1e-5, rtol=0)
        alone = segment_attention(
            q,
            k,
            v,
            cosine=cosine,
            aggregation=aggregation,
            seed=seed,
            maps=(),
            impl="cuda",
            scale=10.0 if cosine else None,
        )
        assert (alone.pooled == got.pooled).all()


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)], ids=str)
def test_segment_attention_in_half_precision(dtype, atol, cuda_library):
    q, k, v = (torch.randn(2, n, 44).to(dtype) for n in (9, 70, 70))
    got = segment_attention(q, k, v, cosine=True, scale=3.0, aggregation="soft", impl="cuda")
    truth = segment_attention(
        q.double(), k.double(), v.double(), cosine=True, scale=3.0, aggregation="soft", impl="reference"
    )
    assert got.pooled.dtype == dtype
    torch.testing.assert_close(got.pooled.double(), truth.pooled, atol=atol, rtol=0)


def test_segment_attention_is_an_operator(cuda_library):
    from zeroseg.kernels.segment_attention.torch_op_cuda import forward_op

    q, k, v = torch.randn(2, 5, 12), torch.randn(2, 19, 12), torch.randn(2, 19, 7)
    for with_hard in (True, False):
        torch.library.opcheck(forward_op, (q, k, v, True, False, 1.0, 3, with_hard, True))


def test_what_it_cannot_do_is_said(cuda_library, monkeypatch):
    q, k, v = (torch.randn(1, 3, 4, requires_grad=True) for _ in range(3))
    with pytest.raises(UnavailableError, match="it has no gradient"):
        segment_attention(q, k, v, impl="cuda")
    with pytest.raises(ValueError, match="must stay below 2\\^30"):
        _cuda.call(
            "zs_cuda_mask_decode",
            q.device,
            _cuda.MaskDecodeArgs(
                maps=1, labels=1, batch=1, segments=1, rows=1 << 20, columns=1, height=1 << 20, width=1, label_bytes=1
            ),
        )
    monkeypatch.setenv("ZEROSEG_CUDA_LIBRARY", "nowhere/libzeroseg_cuda.so")
    _cuda._library.cache_clear()
    with pytest.raises(UnavailableError, match="ZEROSEG_CUDA=1 pip install . builds it"):
        preprocess_batch(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), (1, 1), (0, 0, 0), (1, 1, 1), "cuda")


@pytest.mark.slow
@pytest.mark.skipif(SANITIZED in os.environ or sys.platform != "linux", reason="started from outside, on Linux")
def test_sanitizers_find_nothing_in_the_emulated_kernels(tmp_path):
    library = build(tmp_path, "-DZEROSEG_SANITIZE=ON")
    # and the C++ library, or exceptions of modules that Python loads later (Triton's) end in the sanitizer itself
    preloaded = [
        subprocess.run(["c++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in ("libasan.so", "libstdc++.so.6")
    ]
    if not all(map(os.path.isabs, preloaded)):
        pytest.skip("the compiler has no libasan.so and libstdc++.so.6 to load into Python")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-n0",
            "-k",
            "upwards and not full_hd and not vga and not paper and not many_segments and not 700 and not operator",
            __file__,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            SANITIZED: str(library),
            "LD_PRELOAD": " ".join(preloaded),
            "ASAN_OPTIONS": "detect_leaks=0",
        },
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert " passed" in done.stdout
