"""segment_attention: the reference against formulas and float64, Triton against the reference, on cases.py."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from zeroseg.errors import UnavailableError  # noqa: E402
from zeroseg.kernels import segment_attention as op  # noqa: E402
from zeroseg.kernels._dispatch import last_impl  # noqa: E402
from zeroseg.kernels.segment_attention import segment_attention  # noqa: E402
from zeroseg.kernels.segment_attention.cases import CASES  # noqa: E402
from zeroseg.kernels.segment_attention.gumbel_noise import gumbel_noise, philox  # noqa: E402

pytestmark = pytest.mark.usefixtures("poison_torch")

ATOL = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}  # values and logits of O(1)
# Triton 3.9's interpreter multiplies the bits of bfloat16 tiles as integers
skip_bfloat16 = pytest.mark.skipif(op._triton.interpreted(), reason="Triton's interpreter cannot multiply bfloat16")
SEED = 0x1234_5678_9ABC_DEF


def inputs(case, device, dtype=torch.float32):
    """q, k, v of O(1) logits; k and v strided as halves of one projection are."""
    q = torch.randn(case.batch, case.groups, case.width)
    k, v = torch.randn(case.batch, case.tokens, case.width + case.values).split([case.width, case.values], dim=-1)
    return [x.to(device, dtype) for x in (2 * q, k, v)]


def run(tensors, impl, **options):
    result = segment_attention(*tensors, impl=impl, **options)
    assert last_impl("segment_attention") == impl
    return result


OPTIONS = [(True, "hard", SEED), (False, "hard", None), (False, "soft", SEED), (True, "soft", None)]
LONG = {"bundled_first", "paper_224"}  # the interpreter takes seconds: one set of options each


@pytest.mark.parametrize(
    ("name", "cosine", "aggregation", "seed"),
    [(name, *options) for name in CASES for options in (OPTIONS[:1] if name in LONG else OPTIONS)],
)
def test_matches_reference(name, cosine, aggregation, seed, device):
    tensors = inputs(CASES[name], device)
    options = {
        "cosine": cosine,
        "aggregation": aggregation,
        "seed": seed,
        "tau": 0.7,
        "scale": 10.0 if cosine else None,
    }
    got, expected = run(tensors, "triton", **options), run(tensors, "reference", **options)
    torch.testing.assert_close(got.soft, expected.soft, atol=ATOL[torch.float32], rtol=0)
    torch.testing.assert_close(got.choice, expected.choice)  # float32 on both sides; random logits do not tie
    torch.testing.assert_close(got.hard, expected.hard, atol=0, rtol=0)
    torch.testing.assert_close(got.pooled, expected.pooled, atol=ATOL[torch.float32], rtol=0)


@pytest.mark.parametrize("name", ["one", "prime", "off_block", "bundled_second"])
@pytest.mark.parametrize(("cosine", "aggregation", "seed"), OPTIONS)
def test_gradients_match_reference(name, cosine, aggregation, seed, device):
    """Every output gets a gradient of its own, and so does the scale."""
    tensors = inputs(CASES[name], device)
    grads = {}
    weights = None
    for impl in ("reference", "triton"):
        leaves = [x.clone().requires_grad_() for x in tensors] + [torch.tensor(0.5, device=device, requires_grad=True)]
        result = run(leaves[:3], impl, scale=leaves[3], cosine=cosine, aggregation=aggregation, seed=seed, tau=0.7)
        outputs = [result.pooled, result.hard, result.soft]
        weights = weights or [torch.randn_like(x) for x in outputs]
        sum((x * w).sum() for x, w in zip(outputs, weights)).backward()
        grads[impl] = [leaf.grad for leaf in leaves]
    *sizes, d_q = [grad.abs().max() for grad in grads["reference"][:3]] + [grads["reference"][0]]
    sizes.append((d_q * tensors[0]).abs().sum() / 0.5)  # what the scale's gradient sums up, with either sign
    for got, expected, size in zip(grads["triton"], grads["reference"], sizes):
        torch.testing.assert_close(got, expected, atol=1e-5 * max(1, size), rtol=0)


@pytest.mark.parametrize("only", ["pooled", "hard", "soft"])
def test_gradient_of_one_output_alone(only, device):
    grads = []
    tensors = inputs(CASES["prime"], device)
    for impl in ("reference", "triton"):
        leaves = [x.clone().requires_grad_() for x in tensors]
        output = getattr(run(leaves, impl, seed=3, maps=tuple({only} - {"pooled"})), only)
        (output * torch.linspace(-1, 1, output.numel(), device=device).view_as(output)).sum().backward()
        grads.append([torch.zeros_like(x) if x.grad is None else x.grad for x in leaves])
    for got, expected in zip(*grads):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=skip_bfloat16)], ids=str)
@pytest.mark.parametrize("name", ["prime", "off_block"])
def test_half_precision_is_near_float64(dtype, name, device):
    tensors = inputs(CASES[name], device, dtype)
    leaves = [x.clone().requires_grad_() for x in tensors]
    wide = [x.double().requires_grad_() for x in tensors]
    # soft: no choice to flip
    got, exact = (
        run(x, impl, cosine=True, scale=3.0, aggregation="soft")
        for x, impl in ((leaves, "triton"), (wide, "reference"))
    )
    assert got.pooled.dtype == dtype and got.soft.dtype == torch.float32
    torch.testing.assert_close(got.pooled.double(), exact.pooled, atol=ATOL[dtype], rtol=0)
    torch.testing.assert_close(got.soft.double(), exact.soft, atol=ATOL[dtype], rtol=0)
    got.pooled.square().sum().backward()
    exact.pooled.square().sum().backward()
    for leaf, truth in zip(leaves, wide):
        error = (leaf.grad.double() - truth.grad).abs().max()
        assert error < 8 * ATOL[dtype] * truth.grad.abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=skip_bfloat16)], ids=str)
def test_float32_queries_with_values_of_half_precision(dtype, device):
    """What autocast gives: logits in full precision, values in half."""
    q, k, v = inputs(CASES["prime"], device)
    tensors = [q, k, v.to(dtype)]
    got, expected = run(tensors, "triton"), run(tensors, "reference")
    torch.testing.assert_close(got.choice, expected.choice)
    torch.testing.assert_close(got.pooled, expected.pooled, atol=ATOL[dtype], rtol=0)


def test_keys_of_zeros_do_no_harm(device):
    """They have no direction: their logits are 0, and no gradient becomes infinite or NaN."""
    q, k, v = inputs(CASES["prime"], device)
    k[:, 3] = 0
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    result = run(leaves, "triton", cosine=True)
    torch.testing.assert_close(result.soft[:, 3], torch.full_like(result.soft[:, 3], 1 / 7))
    (result.pooled.sum() + (result.soft * result.hard).sum()).backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)
    assert (leaves[1].grad[:, 3] == 0).all() and (leaves[0].grad != 0).any()


def test_accepts_views_of_any_stride(device):
    q, k, v = inputs(CASES["prime"], device)
    views = [q.transpose(1, 2).contiguous().transpose(1, 2), k[:, ::2], v.flip(0)[:, ::2]]
    for name in ("pooled", "choice", "hard", "soft"):
        got, expected = (getattr(run(views, impl, seed=1), name) for impl in ("triton", "reference"))
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_maps_that_are_not_wanted_are_not_kept(device):
    result = run(inputs(CASES["prime"], device), "triton", maps=())
    assert result.hard is None and result.soft is None
    assert torch.isfinite(result.pooled).all()


def test_same_seed_same_noise(device):
    tensors = inputs(CASES["prime"], device)
    first, again, other = (run(tensors, "triton", seed=seed).choice for seed in (5, 5, 6))
    torch.testing.assert_close(first, again)
    assert (first != other).any()


def test_reference_against_numpy():
    """The formula written out with loops."""
    q, k, v = (x.double() for x in inputs(CASES["prime"], "cpu"))
    result = run((q, k, v), "reference", cosine=True, scale=4.0)
    q, k, v = q.numpy(), k.numpy(), v.numpy()
    for b in range(len(q)):
        sums, counts = np.zeros((q.shape[1], v.shape[2])), np.ones(q.shape[1])
        for token in range(k.shape[1]):
            logits = [4 * (row @ k[b, token]) / np.linalg.norm(row) / np.linalg.norm(k[b, token]) for row in q[b]]
            winner = int(np.argmax(logits))
            assert result.choice[b, token] == winner
            np.testing.assert_allclose(result.soft[b, token], np.exp(logits) / np.exp(logits).sum(), atol=1e-12)
            sums[winner] += v[b, token]
            counts[winner] += 1
        np.testing.assert_allclose(result.pooled[b], sums / counts[:, None], atol=1e-12)


@pytest.mark.parametrize("seed", [None, SEED])
@pytest.mark.parametrize("cosine", [False, True])
def test_reference_gradcheck(cosine, seed):
    """Where nothing is straight-through the reference's gradient is the derivative, in float64."""
    shapes = ((2, 3, 4), (2, 5, 4), (2, 5, 2))
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def outputs(*tensors):
        result = segment_attention(*tensors, cosine=cosine, aggregation="soft", seed=seed, impl="reference")
        return result.pooled, result.soft

    assert torch.autograd.gradcheck(outputs, leaves)


def test_reference_straight_through_is_the_soft_gradient():
    """hard carries the gradient of the noisy softmax at temperature tau, computed here by hand."""
    q, k, v = (x.double().requires_grad_() for x in inputs(CASES["prime"], "cpu"))
    hard = run((q, k, v), "reference", seed=SEED, tau=0.5, scale=1.0).hard
    weight = torch.randn_like(hard)
    got = torch.autograd.grad((hard * weight).sum(), (q, k))
    logits = k @ q.transpose(1, 2)
    noisy = ((logits + gumbel_noise(SEED, *logits.shape)) / 0.5).softmax(-1)
    expected = torch.autograd.grad((noisy * weight).sum(), (q, k))
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_philox_gives_the_published_words():
    """Known answers of the Random123 distribution, philox4x32, 10 rounds."""

    def words(counter, seed):
        return [int(w) for w in philox(tuple(torch.tensor(c) for c in counter), seed)]

    assert words((0, 0, 0, 0), 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert words((ones,) * 4, ones << 32 | ones) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_noise_is_gumbel():
    noise = gumbel_noise(7, 4, 400, 33)
    assert abs(noise.mean() - 0.5772) < 0.02 and abs(noise.var() - math.pi**2 / 6) < 0.05
    assert noise.unique().numel() > 0.99 * noise.numel()
    torch.testing.assert_close(noise[:2, :50, :30], gumbel_noise(7, 2, 50, 30))  # depends on the place alone


@pytest.mark.parametrize("aggregation", ["hard", "soft"])
def test_opcheck(aggregation, device):
    from zeroseg.kernels.segment_attention import torch_op

    leaves = [x.requires_grad_() for x in inputs(CASES["one_token"], device)]
    arguments = (*leaves, True, aggregation == "soft", 1.0, 0.7, 11, True, True)
    torch.library.opcheck(torch_op.forward_op, arguments)


def test_auto_takes_what_runs_here():
    segment_attention(*inputs(CASES["prime"], "cpu"))
    assert last_impl("segment_attention") == ("triton" if op._triton.interpreted() else "reference")


def test_explicit_impl_that_cannot_run_raises(monkeypatch):
    monkeypatch.setattr(op._triton, "interpreted", lambda: False)
    with pytest.raises(UnavailableError, match="impl='triton' cannot run here: Triton kernels need tensors on a CUDA"):
        segment_attention(*inputs(CASES["prime"], "cpu"), impl="triton")
    with pytest.raises(UnavailableError, match="float64"):
        segment_attention(*[x.double() for x in inputs(CASES["prime"], "cpu")], impl="triton")


Q, K, V = torch.zeros(2, 3, 8), torch.zeros(2, 5, 8), torch.zeros(2, 5, 4)


@pytest.mark.parametrize(
    ("tensors", "options", "message"),
    [
        ((Q[0], K, V), {}, r"q: expected \(B, S, C\) float32 or .*, got \(3, 8\) float32"),
        ((Q, K[..., :4], V), {}, r"k: expected \(2, L, 8\) float32, got \(2, 5, 4\)"),
        ((Q, K.half(), V), {}, "k: expected .* got .* float16"),
        ((Q, K, V[:, :4]), {}, r"v: expected \(2, 5, D\)"),
        ((Q, K, V[..., :0]), {}, "no empty axis"),
        ((torch.zeros(2, 65, 8), K, V), {}, "at most 64 groups, got 65"),
        ((Q, K, V), {"aggregation": "mean"}, "aggregation: expected hard or soft"),
        ((Q, K, V), {"tau": 0}, "positive"),
        ((Q, K, V), {"seed": -1}, "seed: expected"),
        ((Q, K, V), {"maps": ("loud",)}, "maps: expected"),
        ((Q, K, V), {"impl": "fastest"}, "impl must be one of auto, triton, cuda, reference"),
    ],
)
def test_bad_input_is_named(tensors, options, message):
    with pytest.raises(ValueError, match=message):
        segment_attention(*tensors, **options)
