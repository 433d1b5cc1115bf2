import json
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from zeroseg.config import PRESETS, ModelConfig


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    assert ModelConfig.from_dict(json.loads(json.dumps(PRESETS[name].to_dict()))) == PRESETS[name]


def test_base_is_the_papers_model():
    base = PRESETS["base"]
    assert (base.width, base.depth, base.decoder_depth, base.head_depths) == (768, 12, 8, (2, 2, 1))
    assert (base.group_tokens, base.segments, base.mask_ratio, base.image_size) == ((32, 8), 8, 0.6, 224)


def test_config_is_frozen():
    with pytest.raises(FrozenInstanceError):
        PRESETS["base"].width = 1


@pytest.mark.parametrize(
    "values, message",
    [
        ({"widht": 3}, "unknown field.* widht"),
        ({"width": "768"}, "width: expected a positive int, got '768'"),
        ({"width": 0}, "width: expected a positive int, got 0"),
        ({"depth": True}, "depth: expected a positive int, got True"),
        ({"gumbel": 1}, "gumbel: expected bool, got 1"),
        ({"mask_ratio": 1.0}, "mask_ratio: expected 0 <= r < 1"),
        ({"score_share": 1.0}, "score_share: expected 0 <= r < 1"),
        ({"mask_ratio": None}, "mask_ratio: expected a number"),
        ({"encoder": "resnet"}, "encoder: expected vit or hybrid, got 'resnet'"),
        ({"group_tokens": [32]}, "head_depths, group_tokens, output_groups: expected n \\+ 1, n, n"),
        ({"group_tokens": [32, "8"]}, "group_tokens: expected a list of positive ints"),
        ({"heads": 7}, "width: expected a multiple of heads = 7, got 768"),
        ({"image_size": 225}, "image_size: expected a multiple of 16, got 225"),
        ({"encoder": "hybrid", "image_size": 240}, "image_size: expected a multiple of 32, got 240"),
        ({"positions": "none"}, "positions: reconstruction needs them"),
    ],
)
def test_from_dict_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize("values", [None, [], "tiny"])
def test_from_dict_refuses_what_is_no_dict(values):
    with pytest.raises(ValueError, match="expected a dict of fields"):
        ModelConfig.from_dict(values)


def test_every_field_has_a_reason():
    """House rule: a field without a comment beside it is a field nobody can judge."""
    from pathlib import Path

    import zeroseg.config

    lines = Path(zeroseg.config.__file__).read_text().splitlines()
    for field in fields(ModelConfig):
        line = next(line for line in lines if line.startswith(f"    {field.name}: "))
        assert "  # " in line, field.name


def test_replace_validates():
    with pytest.raises(ValueError, match="assignment"):
        replace(PRESETS["tiny"], assignment="euclidean")
