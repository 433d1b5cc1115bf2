"""Losses are weighted and summed as configured, and a masked student is compared with the places it saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zeroseg.model.encoder import mask_from_noise, take_places
from zeroseg.model.zeroseg import ZeroSeg
from zeroseg.training import losses
from zeroseg.training.batches import Batch
from zeroseg.training.objective import LOSSES, Objective, reaches_all
from zeroseg.training.pictures import draw_masks, segment_colours
from zeroseg.training.recipes import LossWeights, TrainConfig, ViewConfig

TINY = {
    "image_size": 32,
    "patch_size": 8,
    "width": 16,
    "depth": 1,
    "heads": 2,
    "head_width": 16,
    "head_heads": 2,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "group_tokens": [6, 4],
    "output_groups": [6, 4],
    "projector_hidden": 24,
    "embedding_dim": 5,
    "embedding_space": "test",
    "gumbel": False,
    "mask_ratio": 0.5,
}


@pytest.fixture
def batch():
    return Batch(torch.rand(3, 3, 32, 32), None, torch.randn(3, 5, 5), torch.randn(3, 16, 5), (4, 4))


def objective(**weights):
    config = replace(TrainConfig(), model=TINY, views=ViewConfig((1, 2), 4), losses=LossWeights(**weights))
    return Objective(ZeroSeg(config.model_config()).eval(), config)


def test_every_weight_has_a_loss():
    assert set(LOSSES) == set(LossWeights.__dataclass_fields__)


def test_total_is_the_weighted_sum_of_what_is_logged(batch):
    module = objective(multi_scale=2.0, segment_matching=0.5, place=3.0, reconstruction=0.25)
    total, values = module(batch, torch.rand(3, 16))
    assert set(values) == {"multi_scale", "segment_matching", "place", "reconstruction"}
    weights = {"multi_scale": 2.0, "segment_matching": 0.5, "place": 3.0, "reconstruction": 0.25}
    torch.testing.assert_close(total.detach(), sum(weights[name] * values[name] for name in weights))
    output = module.student(batch.image)
    _, unmasked = module(batch)
    torch.testing.assert_close(unmasked["multi_scale"], losses.multi_scale_loss(output.image_embedding, batch.views))
    torch.testing.assert_close(
        unmasked["segment_matching"], losses.segment_matching_loss(output.segment_embeddings, batch.views)
    )
    assert "reconstruction" not in unmasked


def test_masked_places_are_compared_with_their_own_targets(batch):
    module, noise = objective(group_variance=1.0), torch.rand(3, 16)
    _, values = module(batch, noise)
    output = module.student(batch.image, mask_noise=noise)
    seen = take_places(batch.dense, mask_from_noise(noise, 0.5).keep)
    assert output.soft_map.shape[1] == 8
    torch.testing.assert_close(values["group_variance"], losses.group_variance_loss(output.soft_map, seen))


@pytest.mark.parametrize(
    ("weights", "model", "all_reached"),
    [
        ({"reconstruction": 1.0, "multi_scale": 1.0, "segment_matching": 1.0}, {}, True),  # the paper's
        ({"multi_scale": 1.0, "segment_matching": 1.0}, {}, False),  # a decoder without a loss
        ({"multi_scale": 1.0, "place": 1.0}, {"reconstruction": False, "mask_ratio": 0.0}, True),
        ({"place": 1.0}, {"reconstruction": False, "projector_shared": False}, False),  # the image's readout
        ({"group_variance": 1.0}, {"reconstruction": False}, False),  # no readout at all
        ({"reconstruction": 1.0, "multi_scale": 1.0, "place": 1.0}, {"projector_shared": False}, True),
    ],
)
def test_weights_without_a_loss_are_known_before_the_first_step(batch, weights, model, all_reached):
    config = replace(TrainConfig(), model=TINY | model, views=ViewConfig((1, 2), 4), losses=LossWeights(**weights))
    module = Objective(ZeroSeg(config.model_config()), config)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert reaches_all(module, batch) == all_reached
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    module.train()(batch, torch.rand(3, 16) if module.student.config.mask_ratio else None)[0].backward()
    assert all(weight.grad is not None for weight in module.parameters()) == all_reached


def test_masks_are_drawn_where_the_segments_are():
    image, grid = torch.full((2, 3, 16, 16), 0.5), (4, 4)
    soft = torch.zeros(2, 16, 3)
    soft[0, :, 0] = 1
    soft[1, :8, 1] = soft[1, 8:, 2] = 1  # upper half, lower half
    picture = np.asarray(draw_masks(image, soft, grid)).astype(int)
    assert picture.shape == (32, 32, 3) and (picture[:16] == 128).all()
    blend = (0.45 * 127.5 + 0.55 * segment_colours(3).astype(float)).round().astype(int)
    assert abs(picture[20, 4] - blend[0]).max() <= 1
    assert abs(picture[18, 20] - blend[1]).max() <= 1 and abs(picture[30, 28] - blend[2]).max() <= 1
    assert len({tuple(colour) for colour in segment_colours(8)}) == 8
