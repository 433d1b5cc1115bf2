"""SC-CLIP's and SFP's readings against their formulas, written out in NumPy place by place and head by head."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("timm")

from tests.dense import tiny_towers  # noqa: E402
from zeroseg.dense.blocks import OpenClipBlock  # noqa: E402
from zeroseg.dense.calibrated import anomalies, loud_places, mended  # noqa: E402
from zeroseg.dense.reading import Layout  # noqa: E402
from zeroseg.dense.towers import read_tower  # noqa: E402

GRID = (8, 6)  # 48 places: more than SC-CLIP's 30 neighbours
DEPTH = 12


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x, norm):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps) * norm.weight.numpy() + norm.bias.numpy()


def outliers(x):
    """Places of x (N, C) whose outlier factor is above NumPy's 95 % quantile."""
    squared = [[float(((a - b) ** 2).sum()) for b in x] for a in x]
    near = [sorted(range(len(x)), key=lambda j: (j != i, row[j]))[1:31] for i, row in enumerate(squared)]
    reach = [np.mean([max(squared[i][j], squared[i][near[i][-1]]) for j in near[i]]) for i in range(len(x))]
    factor = np.array([np.mean([reach[i] / reach[j] for j in near[i]]) for i in range(len(x))])
    return factor > np.quantile(factor, 0.95)


def loud(block, x):
    """SFP's anomalies: places the class token heeds more than they heed themselves."""
    q, k, _ = heads_of(block, x)
    attention = np.mean([softmax(a @ b.T / math.sqrt(a.shape[1])) for a, b in zip(q, k)], 0)
    scores = {i: 1.5 * attention[0, 1 + i] for i in range(len(x) - 1)}
    wanted = [i for i in scores if scores[i] > attention[1 + i, 1 + i]]
    chosen = sorted(wanted, key=lambda i: -scores[i])[:10]
    return np.isin(np.arange(len(x) - 1), chosen)


def neighbours_mean(x, bad):
    height, width = GRID
    out = x.copy()
    for i in np.flatnonzero(bad):
        y, x0 = divmod(int(i), width)
        near = [
            (y + dy) * width + x0 + dx
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if (dy or dx) and 0 <= y + dy < height and 0 <= x0 + dx < width and not bad[(y + dy) * width + x0 + dx]
        ]
        if near:
            out[i] = x[near].mean(0)
    return out


def heads_of(block, x):
    packed = layer_norm(x, block.ln_1) @ block.attn.in_proj_weight.numpy().T + block.attn.in_proj_bias.numpy()
    return [np.split(part, block.attn.num_heads, 1) for part in np.split(packed, 3, 1)]


def cosines(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def cut(similar):
    return np.where(similar < 0.4, 0, similar)


def aggregate(x, similar):
    weights = cut(similar)
    return weights @ x / (weights.sum(1, keepdims=True) + 1e-6)


def places_by_formula(visual, levels, name):
    """levels: (L, C) tokens after blocks 1 to 11 -> (h w, D) unit rows."""
    *_, before, block = visual.transformer.resblocks
    after = dict(enumerate(levels, start=1))
    bad = outliers(after[11][1:]) if name == "scclip" else loud(before, after[10])
    assert 0 < bad.sum() <= 10
    similar, detailed = cosines(neighbours_mean(after[9][1:], bad)), cosines(after[4][1:])
    attended = cut(similar) if name == "sfp" else similar
    contrast = 3 * (attended - attended.mean())
    by_likeness = softmax(np.where(contrast < 0, -np.inf, contrast))

    def attend(x, kinds):
        q, k, v = heads_of(block, x)
        mixed = []
        for head in range(len(v)):
            weights, size = [by_likeness], v[head].shape[1]
            weights += [softmax(t[head] @ t[head].T / math.sqrt(size)) for t in ({"q": q, "k": k}[n] for n in kinds)]
            mixed.append(np.mean(weights, 0) @ v[head])
        return np.concatenate(mixed, 1) @ block.attn.out_proj.weight.numpy().T + block.attn.out_proj.bias.numpy()

    kinds = (("k",), ("k",)) if name == "scclip" else (("q", "k"), ())
    x = attend(aggregate(neighbours_mean(after[11][1:], bad), similar), kinds[0]) + 0.3 * after[11][:1]
    fused = sum(after[n] for n in range(4, 11))
    more = attend(fused[1:], kinds[1]) + 0.3 * fused[:1]
    out = aggregate(x, detailed) + aggregate(more, detailed)
    places = layer_norm(out, visual.ln_post) @ visual.proj.numpy()
    return places / np.linalg.norm(places, axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["scclip", "sfp"])
def test_reading_equals_its_formula_in_numpy(name):
    visual = tiny_towers.make("class-token", layers=DEPTH).visual
    tower = read_tower(visual, name)
    images = torch.randn(2, 3, 16 * GRID[0], 16 * GRID[1], generator=torch.Generator().manual_seed(3))
    levels = []
    tower.stem(images, levels)
    got = tower(images)[0].flatten(1, 2).numpy()
    for i in range(2):
        expected = places_by_formula(visual, [level[i].double().numpy() for level in levels], name)
        np.testing.assert_allclose(got[i], expected, atol=5e-6)


def test_layers_of_a_shallow_tower_are_those_at_the_same_fractions():
    """Of 3 blocks, those after 9/12, 4/12 and 10/12 are blocks 2, 1 and 2: it runs, and places differ."""
    for kind in ("class-token", "timm-class-token"):
        for name in ("scclip", "sfp"):
            places = read_tower(tiny_towers.make(kind).visual, name)(torch.randn(1, 3, 64, 64))[0]
            assert places.isfinite().all() and places.flatten(1, 2).std(1).mean() > 1e-3


def test_anomalies_are_those_above_a_quantile():
    for count in (40, 49, 196):
        x = torch.randn(1, count, 8, generator=torch.Generator().manual_seed(count))
        got = anomalies(x)[0]
        assert got.sum() == count - 1 - math.floor(0.95 * (count - 1)), count
        np.testing.assert_array_equal(got.numpy(), outliers(x[0].double().numpy()))


@pytest.mark.parametrize(("count", "both"), [(16, False), (31, True)])
def test_a_tie_between_the_places_farthest_apart_is_not_decided_by_rounding(count, both):
    """With all others as neighbours, a place's reach is its largest distance: the farthest two are equal. One place of
    16 is an anomaly, and two of 31 are.
    """
    x = torch.randn(4, count, 8, generator=torch.Generator().manual_seed(count))
    squared = torch.cdist(x.double(), x.double()).square()
    for got, distance in zip(anomalies(x), squared, strict=True):
        pair = distance.amax(1) == distance.max()
        assert pair.sum() == 2 and got[pair].tolist() == [both, both] and not got[~pair].any()


def test_a_tower_of_two_blocks_has_no_such_reading():
    tower = read_tower(tiny_towers.make("class-token", layers=2).visual)
    assert tower.reading == "naclip" and not {"scclip", "sfp"} & set(tower.readings)


def test_a_place_without_a_sound_neighbour_stays():
    x = torch.arange(4.0).view(1, 4, 1)
    everywhere = torch.ones(1, 4, dtype=torch.bool)
    assert torch.equal(mended(x, everywhere, (2, 2)), x)
    first = torch.tensor([[True, False, False, False]])
    assert mended(x, first, (2, 2)).flatten().tolist() == [2.0, 1.0, 2.0, 3.0]


def test_no_loud_place_is_no_anomaly():
    block = OpenClipBlock(tiny_towers.make("class-token").visual.transformer.resblocks[0])
    x = torch.zeros(1, 5, 32)  # all alike: 1.5 times a fifth is more than a fifth, for each of the four
    assert loud_places(block, x, Layout(1, (2, 2))).sum() == 4
    many = torch.zeros(1, 30, 32)
    assert (
        loud_places(block, many, Layout(1, (29, 1))).sum() == 29
    )  # all are equally loud: none is left out before another
