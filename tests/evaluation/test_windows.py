"""The windowed protocol against a slow reading of its description, pixel by pixel, on toy inputs."""

import math

import numpy as np
import pytest

from zeroseg.evaluation import resize, windows
from zeroseg.evaluation.protocol import ProtocolConfig

SIZES = [(448, 448), (448, 600), (449, 448), (448, 2048), (300, 448), (100, 90), (672, 673), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_windows_cover_every_pixel_and_stay_inside(size):
    hits = np.zeros(size, int)
    boxes = windows.window_boxes(size, 448, 224)
    for y, x, h, w in boxes:
        assert y >= 0 and x >= 0 and y + h <= size[0] and x + w <= size[1]
        assert (h, w) == (min(448, size[0]), min(448, size[1]))
        hits[y : y + h, x : x + w] += 1
    assert hits.min() >= 1
    assert len(set(boxes)) == len(boxes)


def test_window_starts_are_the_protocols():
    assert [b[1] for b in windows.window_boxes((448, 700), 448, 224)] == [0, 224, 252]
    assert [b[0] for b in windows.window_boxes((672, 448), 448, 224)] == [0, 224]


@pytest.mark.parametrize(
    "size,expected",
    [((375, 500), (448, 597)), ((500, 375), (597, 448)), ((100, 2000), (102, 2048)), ((448, 448), (448, 448))],
)
def test_resized_frame_keeps_the_cap(size, expected):
    assert resize.fitted_size(size, 448, 2048) == expected


def group_scores_by_hand(scores, image_scores, scale, top):
    """Steps 2 to 4 with loops over plain floats."""
    K, N = scores.shape
    kept = sorted(range(N), key=lambda n: -image_scores[n])[: N if top is None else top]
    out = [[0.0] * N for _ in range(K)]
    for k in range(K):
        e = [math.exp(scale * float(scores[k, n])) for n in range(N)]
        for n in range(N):
            p_all = e[n] / sum(e)
            p_top = e[n] / sum(e[m] for m in kept) if n in kept else 0.0
            out[k][n] = p_all * (1.0 if top is None else p_top)
    return np.array(out)


@pytest.mark.parametrize("top", [None, 1, 5, 30])
def test_group_scores_are_the_product_of_both_softmaxes(top):
    rng = np.random.default_rng(0)
    scores, image_scores = rng.normal(0, 0.1, (8, 20)), rng.normal(0, 0.1, 20)
    got = windows.group_scores(scores, image_scores, 30.0, top)
    np.testing.assert_allclose(got, group_scores_by_hand(scores, image_scores, 30.0, top), rtol=1e-12)


def test_top_filter_zeroes_all_names_but_the_photos_best():
    got = windows.group_scores(np.full((3, 7), 0.2), np.array([0.0, 3, 1, 2, 9, 8, 7]), 100.0, 5)
    assert (got > 0).sum(1).tolist() == [5, 5, 5] and (got[:, [0, 2]] == 0).all()
    np.testing.assert_allclose(got[:, 4], (1 / 7) * (1 / 5))


def test_background_rule_keeps_the_strongest_segment():
    scores = np.array([[0.2, 0.1], [0.05, 0.3], [0.3, 0.0]])
    assert windows.with_background(scores, 0.95)[:, 0].tolist() == [1, 0, 0]  # thr = min(.95, .3)
    assert windows.with_background(scores, 0.25)[:, 0].tolist() == [1, 0, 0]
    assert windows.with_background(scores, 0.1)[:, 0].tolist() == [0, 0, 0]
    assert windows.with_background(scores, -math.inf)[:, 0].tolist() == [0, 0, 0]


def toy_predict(K, N, seed):
    """A network whose answer depends on the window it sees, and a log of the sizes it was asked for."""
    sizes = []

    def predict(image, size):
        sizes.append((image.shape[:2], size))
        rng = np.random.default_rng([seed, int(image.sum())])
        maps = rng.random((K, 3, 4)).astype(np.float32)
        return {
            "segment_maps": maps / maps.sum(0),
            "segment_scores": rng.normal(0, 0.3, (K, N)).astype(np.float32),
            "image_scores": rng.normal(0, 0.3, N).astype(np.float32),
        }

    return predict, sizes


def interpolate_by_hand(plane, size, y, x):
    """Bilinear value of plane (h, w) at pixel (y, x) of its resized version."""
    h, w = plane.shape
    sy = min(max((y + 0.5) * h / size[0] - 0.5, 0), h - 1)
    sx = min(max((x + 0.5) * w / size[1] - 0.5, 0), w - 1)
    y0, x0 = int(sy), int(sx)
    y1, x1, fy, fx = min(y0 + 1, h - 1), min(x0 + 1, w - 1), sy - y0, sx - x0
    top = plane[y0, x0] * (1 - fx) + plane[y0, x1] * fx
    return top * (1 - fy) + (plane[y1, x0] * (1 - fx) + plane[y1, x1] * fx) * fy


@pytest.mark.parametrize("last_softmax", [False, True])  # mmsegmentation 1.2, 0.18
@pytest.mark.parametrize("threshold", [0.4, 0.9, -math.inf])
def test_whole_protocol_equals_slow_reading(last_softmax, threshold):
    """What mmsegmentation does: mean over windows, resize, softmax (0.18 alone), argmax."""
    K, N, window, stride = 3, 6, 8, 4
    config = ProtocolConfig(
        "groupvit", threshold, short_side_px=11, max_long_side_px=40, window_px=window, stride_px=stride,
        multiple_px=8, logit_scale=4.0,
    )  # fmt: skip
    photo = np.random.default_rng(3).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    predict, sizes = toy_predict(K, N, 1)
    reading = windows.read_windows(predict, photo, N, config)
    got = reading.label_map(threshold)
    resized = reading.resized
    assert resized == (11, 16) and set(sizes) == {((8, 8), (8, 8))} and len(sizes) == 2 * 3

    total, hits = np.zeros((N + 1, *resized)), np.zeros(resized)
    seen = np.asarray(windows.Image.fromarray(photo).resize(resized[::-1], windows.Image.Resampling.BILINEAR))
    for top, left in ((0, 0), (0, 4), (0, 8), (3, 0), (3, 4), (3, 8)):
        answer = predict(seen[top : top + window, left : left + window], (8, 8))
        scores = group_scores_by_hand(answer["segment_scores"], answer["image_scores"], 4.0, 5)
        thr = min(threshold, scores.max())
        for y in range(window):
            for x in range(window):
                maps = [
                    interpolate_by_hand(m.astype(np.float64), (window, window), y, x) for m in answer["segment_maps"]
                ]
                pixel = scores[int(np.argmax(maps))]
                background = 1.0 if pixel.max() < thr else 0.0
                total[:, top + y, left + x] += [background, *pixel]
                hits[top + y, left + x] += 1
    mean = total / hits
    expected = np.zeros(photo.shape[:2], int)
    for y in range(9):
        for x in range(13):
            values = np.array([interpolate_by_hand(plane, (9, 13), y, x) for plane in mean])
            if last_softmax:
                values = np.exp(values) / np.exp(values).sum()
            expected[y, x] = int(np.argmax(values)) - 1
    assert (got == expected).all()
    assert (got == -1).any() == (threshold > 0)


def test_without_background_no_pixel_is_background_even_at_a_tie():
    """Where every score is 0 a background column of zeros would come first."""
    window = windows.Window((0, 0, 2, 2), np.zeros((2, 2), int), np.zeros((1, 3)))
    reading = windows.WindowReading((window,), (2, 2), (4, 4))
    assert (reading.label_map(-math.inf) == 0).all()
    assert (reading.label_map(0.0) == -1).all()


def test_scores_are_resized_before_the_softmax_would_be_taken():
    """Two pixels, three names: between the pixels, blended scores have another order than blended softmaxes."""
    segments = np.array([[0, 1]])
    scores = np.array([[0.9, 0.0, 0.35], [0.0, 0.4, 0.35]])
    window = windows.Window((0, 0, 1, 2), segments, scores)
    wide = windows.WindowReading((window,), (1, 2), (1, 20)).label_map(-math.inf)[0]
    expected = [
        int(np.argmax([interpolate_by_hand(scores.T[n][None], (1, 20), 0, x) for n in range(3)])) for x in range(20)
    ]
    assert wide.tolist() == expected
    soft = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    other = [int(np.argmax([interpolate_by_hand(soft.T[n][None], (1, 20), 0, x) for n in range(3)])) for x in range(20)]
    assert other != expected


def test_side_shorter_than_the_window_is_one_padded_input():
    predict, sizes = toy_predict(2, 3, 0)
    config = ProtocolConfig("groupvit", 0.5, short_side_px=64, max_long_side_px=96, window_px=64, stride_px=32)
    reading = windows.read_windows(predict, np.zeros((20, 96, 3), np.uint8), 3, config)
    assert reading.resized == (20, 96)
    assert sizes == [((20, 64), (32, 64))] * 2
    assert reading.label_map(0.5).shape == (20, 96)


@pytest.mark.parametrize("size", [(5, 7), (2, 3), (13, 29), (1, 1), (64, 3)])
def test_bilinear_equals_torch(size):
    torch = pytest.importorskip("torch")
    maps = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    ref = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], size, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(resize.bilinear(maps, size), ref.numpy(), atol=2e-6)


def test_nearest_takes_the_pixel_under_the_centre():
    ids = np.arange(6).reshape(2, 3)
    assert resize.nearest(ids, (4, 6)).tolist() == np.repeat(np.repeat(ids, 2, 0), 2, 1).tolist()
    assert resize.nearest(ids, (2, 3)).tolist() == ids.tolist()
    assert resize.nearest(ids, (1, 1)).tolist() == [[4]]
