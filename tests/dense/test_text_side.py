"""Prompts are embedded without the places behind their ends, which changes no vector, for several threads at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from zeroseg.dense.weights import TextSide  # noqa: E402

PLACES, END = 77, 99  # of a prompt; the token of its end, the largest


def tokens(prompts: list[str]) -> torch.Tensor:
    """A token per letter, END behind the last one, zeros after it: (n, PLACES) int64."""
    result = torch.zeros(len(prompts), PLACES, dtype=torch.long)
    for row, prompt in zip(result, prompts, strict=True):
        row[: len(prompt) + 1] = torch.tensor([ord(letter) - 64 for letter in prompt.upper()] + [END])
    return result


@pytest.fixture
def model():
    torch.manual_seed(0)
    vision = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}
    text = {"context_length": PLACES, "vocab_size": END + 1, "width": 32, "heads": 2, "layers": 2}
    return open_clip.CLIP(16, vision, text).eval()


@pytest.fixture
def side(model):
    side = TextSide("tiny", model)
    side._tokenizer = tokens
    return side


def plain(model, prompts: list[str]) -> np.ndarray:
    """The vectors by open_clip's own way, on all places."""
    with torch.no_grad():
        return torch.nn.functional.normalize(model.encode_text(tokens(prompts)), dim=-1).numpy()


def test_vectors_are_those_of_all_places_in_the_order_of_the_prompts(model, side):
    lengths = np.random.default_rng(0).integers(1, PLACES, 150)  # several batches
    prompts = ["abcdefg"[i % 7] * length for i, length in enumerate(lengths)]
    np.testing.assert_allclose(side.vectors(prompts), plain(model, prompts), atol=1e-6)
    assert model.attn_mask.shape == (PLACES, PLACES) and len(model.positional_embedding) == PLACES


def test_without_a_causal_mask_all_places_stay(model, side):
    model.attn_mask = None
    np.testing.assert_allclose(side.vectors(["cat", "dogs"]), plain(model, ["cat", "dogs"]), atol=1e-6)


def test_threads_do_not_disturb_one_another(model, side):
    prompts = [["a" * length, "b"] for length in (1, 5, 20, 60)] * 12
    wanted = {tuple(some): plain(model, some) for some in prompts}
    with ThreadPoolExecutor(4) as pool:
        for some, vectors in zip(prompts, pool.map(side.vectors, prompts), strict=True):
            np.testing.assert_allclose(vectors, wanted[tuple(some)], atol=1e-6)
