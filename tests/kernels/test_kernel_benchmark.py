"""bench/kernels.py refuses figures of a wrong kernel, and its ratios are those of the times."""

import time

import numpy as np
import pytest
from click.testing import CliRunner

from zeroseg.bench import kernels as bench
from zeroseg.bench import kernels_guided
from zeroseg.errors import ZerosegError
from zeroseg.kernels import _native
from zeroseg.kernels.best_products import native as native_products
from zeroseg.kernels.mask_decode import guided_native
from zeroseg.kernels.mask_decode import native as native_decode
from zeroseg.kernels.preprocess import native as native_preprocess
from zeroseg.kernels.tint import native as native_tint

pytestmark = pytest.mark.skipif(_native.why_not() is not None, reason=str(_native.why_not()))


def test_right_kernels_are_accepted():
    bench.require_correct()


@pytest.mark.parametrize(
    ("module", "name", "spoil", "message"),
    [
        (native_decode, "mask_decode", lambda result: (result[0] + 1, result[1]), "mask_decode: native and reference"),
        (
            native_decode,
            "mask_decode",
            lambda result: (result[0], result[1] + 1e-3),
            "mask_decode: native and reference",
        ),
        (
            guided_native,
            "guided_decode",
            lambda result: (result[0], result[1] + 1e-3),
            "mask_decode with a guide: native and reference",
        ),
        (native_preprocess, "preprocess", lambda result: result[::-1], "preprocess: native and reference"),
        (native_tint, "tint", lambda result: result + 1, "tint: native and reference"),
        (native_products, "best_products", lambda result: result + 1, "best_products: native and reference"),
    ],
)
def test_wrong_kernel_is_refused(module, name, spoil, message, monkeypatch):
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **kwargs: spoil(right(*args, **kwargs)))
    with pytest.raises(ZerosegError, match=message):
        bench.require_correct()


def test_guided_contender_does_the_same_work():
    """OpenCV works in float32: 7e-5 was seen."""
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    photo = cv2.resize(random.integers(0, 256, (9, 16, 3), np.uint8), (1920, 1080), interpolation=cv2.INTER_CUBIC)
    maps = random.dirichlet([0.3] * 8, (20, 36)).astype(np.float32).transpose(2, 0, 1)
    for contest in kernels_guided.guided_contests(photo, np.ascontiguousarray(maps)):
        labels, confidence = contest["ours"]()
        winner, value = contest["contenders"]["OpenCV guided filter + NumPy argmax"]()
        assert (winner - 1 == labels).mean() > 0.999
        assert np.abs(value - confidence).max() < 5e-4


def test_rows_hold_the_ratio_of_turns():
    contest = bench.Contest(
        "op", "native", "case", 1000, 10, lambda: time.sleep(0.01), {"slow": lambda: time.sleep(0.05)}
    )
    [row] = bench.measure(contest, 1e6, 1, full=False)
    wanted = {"op", "impl", "case", "contender", "median_ms", "speedup", "percent_of_limit", "device", "commit"}
    assert wanted <= set(row)
    assert row["median_ms"] >= 50 and row["our_median_ms"] >= 10
    low, high = row["speedup_range"]
    assert low <= row["speedup"] <= high and row["speedup"] > 1.5
    np.testing.assert_allclose(row["percent_of_limit"], 100 * 1000 / (row["our_median_ms"] / 1000) / 1e6)


def test_goals_are_missed_by_rows_below_them_only():
    row = {"op": "mask_decode", "impl": "native", "case": "1080p", "contender": "torch, 21 labels", "speedup": 49.0}
    assert bench.missed_goals([row]) == [
        "mask_decode (native, 1080p) beside torch, 21 labels: 50 times as fast, got 49.00"
    ]
    assert not bench.missed_goals([row | {"speedup": 50.0}, row | {"contender": "OpenCV alone"}])
    assert bench.missed_goals([row | {"impl": "triton", "speedup": 19.0}]) and not bench.missed_goals(
        [row | {"impl": "triton", "speedup": 21.0}]
    )


def test_without_a_gpu_its_benchmark_says_so():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = CliRunner().invoke(bench.main, ["--device", "cuda"])
    assert done.exit_code == 1 and done.output.strip() == (
        "Error: --device cuda: torch sees no GPU here (torch.cuda.is_available() is False)"
    )


def test_gpu_contenders_do_the_kernels_work(device):
    """Every contest of the GPU at a size that the interpreter can run: what is timed gives the same results."""
    pytest.importorskip("triton")
    from zeroseg.bench import kernels_gpu
    from zeroseg.kernels.segment_attention.cases import Case

    small = kernels_gpu.Shapes(
        decode_batches=(1, 2),
        photo=(37, 50),
        maps=(3, 4),
        labels=(5,),
        attention=(Case(2, 33, 8, 16),),
        preprocess_batches=(2,),
        input_size=(16, 24),
    )
    limits = {"copy": 1e9, "matmul": 1e9}
    contests = list(kernels_gpu.contests(device, ["triton"], small, compiled=False))
    rows = [row for contest in contests for row in kernels_gpu.measure(contest, limits, 1, "none", None)]
    assert {row["op"] for row in rows} == {
        "mask_decode",
        "dense_decode",
        "segment_attention",
        "segment_attention backward",
        "preprocess",
    }
    backward = next(row for row in rows if row["op"] == "segment_attention backward")
    assert backward["percent_of_limit"] == pytest.approx(
        100 * 3 * (2 * 2 * 33 * 8 * 32) / (backward["our_median_ms"] / 1000) / 1e9
    )

    spoiled = contests[0]._replace(ours=lambda: (contests[0].ours()[0] + 1,))
    with pytest.raises(ZerosegError, match="differs from torch, 8 segments; no figures of a wrong kernel"):
        kernels_gpu.measure(spoiled, limits, 1, "none", None)
