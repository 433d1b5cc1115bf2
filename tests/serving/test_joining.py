"""Requests that share a run of the network: each gets what a run of its own would give it, whatever the others are."""

import json

import numpy as np
import pytest

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.serving.client import Client, read_answer
from zeroseg.serving.joining import Request, run_joined

DIM = 5


def network(feed):
    """Maps, scores that depend on photo and label alone; refuses photos that contain a 7."""
    image, labels = feed["image"], feed["label_embeddings"]
    if (image == 7).any():
        raise ZerosegError("no sevens")
    maps = np.repeat(image.mean(1, keepdims=True), 2, axis=1)
    mean = image.mean((1, 2, 3))
    scores = mean[:, None, None] * np.array([1, -2], np.float32)[:, None] + labels.sum(1)
    return {"segment_maps": maps, "segment_scores": scores, "image_scores": scores.max(1)}


def request(rng, size=(4, 6), labels=3, photos=1):
    return Request(
        rng.normal(size=(photos, 3, *size)).astype(np.float32),
        rng.normal(size=(photos, labels, DIM)).astype(np.float32),
    )


def alone(asked):
    """One photo and one label set at a time."""
    runs = [
        network({"image": asked.image[i : i + 1], "label_embeddings": asked.label_embeddings[i]})
        for i in range(len(asked.image))
    ]
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


@pytest.mark.parametrize("seed", range(5))
def test_each_request_gets_its_own_answer(seed):
    rng = np.random.default_rng(seed)
    asked = [
        request(rng, sizes, labels, photos)
        for sizes, labels, photos in [((4, 6), 3, 1), ((4, 6), 1, 2), ((8, 4), 9, 1), ((4, 6), 3, 1), ((8, 4), 2, 3)]
    ]
    asked.append(Request(asked[0].image, asked[3].label_embeddings))  # labels that another one has too
    calls = []
    answers = run_joined(lambda feed: calls.append(feed) or network(feed), asked, DIM)
    assert len(calls) == 2  # one for each size
    assert sorted(len(call["label_embeddings"]) for call in calls) == [3 + 2 + 3, 9 + 3 * 2]
    for one, answer in zip(asked, answers, strict=True):
        for name, value in alone(one).items():
            np.testing.assert_allclose(answer[name], value, atol=1e-6)


def test_label_sets_beyond_what_the_network_takes_are_run_apart():
    rng = np.random.default_rng(1)
    asked = [request(rng, labels=count) for count in (4, 5, 3, 11, 2)]
    asked.insert(1, Request(asked[1].image, asked[0].label_embeddings))  # labels seen already do not count again
    counts = []
    answers = run_joined(lambda feed: counts.append(len(feed["label_embeddings"])) or network(feed), asked, DIM, 9)
    assert counts == [4 + 5, 3, 11, 2]  # 11 are for the network to refuse
    for one, answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(answer["segment_scores"], alone(one)["segment_scores"], atol=1e-6)


def test_bad_request_harms_no_other():
    rng = np.random.default_rng(0)
    good, other = request(rng), request(rng, labels=2)
    nan = Request(good.image, good.label_embeddings * np.nan)
    narrow = Request(good.image, good.label_embeddings[..., :4])
    seven = Request(np.full_like(good.image, 7), good.label_embeddings)
    none = Request(good.image, good.label_embeddings[:, :0])
    answers = run_joined(network, [nan, good, narrow, seven, none, other], DIM)
    assert answers[0] == "label_embeddings: expected finite numbers"
    assert answers[2] == "label_embeddings: expected (1, N, 5) float32, got (1, 3, 4) float32"
    assert answers[3] == "no sevens" and answers[4].startswith("expected photos and labels, got ")
    for one, answer in ((good, answers[1]), (other, answers[5])):
        np.testing.assert_allclose(answer["segment_scores"], alone(one)["segment_scores"], atol=1e-6)


def answer_to(number, shape=(2, 2), datatype="FP32", size=16, name="x"):
    header = {
        "id": number,
        "outputs": [{"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}],
    }
    return json.dumps(header).encode()


def test_whole_answer_is_read():
    header = answer_to("7")
    values = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(
        read_answer(header + values.tobytes(), str(len(header)), "7", ("x",))["x"], values.reshape(2, 2)
    )


@pytest.mark.parametrize(
    "header, body",
    [
        (answer_to("8"), 16),  # to another request
        (answer_to("7"), 12),
        (answer_to("7"), 20),  # cut off, too long
        (answer_to("7", shape=(3, 2)), 16),
        (answer_to("7", datatype="FP99"), 16),
        (answer_to("7", name="y"), 16),
        (b"no json", 16),
        (b'{"id": "7"}', 16),
        (b"[]", 0),
    ],
)
def test_damaged_answer_is_an_error(header, body):
    with pytest.raises(ZerosegError, match="damaged or not ours"):
        read_answer(header + bytes(body), str(len(header)), "7", ("x",))


def test_server_that_is_away():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = Client("127.0.0.1", port)
    assert not client.ready()
    with pytest.raises(UnavailableError, match="^the inference server does not answer; it is started again, try again"):
        client.infer("zeroseg", {"x": np.zeros(1, np.float32)}, ("y",))
