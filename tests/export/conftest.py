"""Small models whose random weights make groups differ, and the description that goes with them."""

from dataclasses import replace

import pytest
import torch

from zeroseg.config import PRESETS
from zeroseg.model.zeroseg import ZeroSeg

SMALL = {"width": 24, "heads": 3, "depth": 1, "head_width": 24, "head_heads": 3, "head_depths": (1, 1, 1),
         "projector_hidden": 32, "prototype_hidden": 16, "embedding_dim": 16}  # fmt: skip
CONFIGS = {
    "hybrid": replace(PRESETS["tiny"], **SMALL, assignment="dot", aggregation="hard", readout="projector"),
    "hybrid-prototypes": replace(
        PRESETS["tiny"], **SMALL, assignment="cosine", aggregation="soft", positions="none", readout="prototypes"
    ),
    "vit": replace(PRESETS["base"], **SMALL, image_size=64),
    "one-stage": replace(PRESETS["base"], **SMALL | {"head_depths": (1, 1)}, image_size=64, group_tokens=(8,),
                         output_groups=(8,)),
}


@pytest.fixture(scope="session")
def sidecar():
    return {
        "format": 1, "name": "test", "embedding_space": "test/space", "embedding_dim": 16, "segments": 8, "stride": 16,
        "input": {"short_side": 64, "multiple": 32, "max_long_side": 128, "mean": [0.5] * 3, "std": [0.5] * 3},
        "threshold": 0.0, "files": {}, "card": {"data": "none"},
    }  # fmt: skip


@pytest.fixture(scope="session")
def make_model():
    """Name of a configuration -> a model in evaluation mode, the same every time."""

    def make(name):
        torch.manual_seed(0)
        model = ZeroSeg(CONFIGS[name]).eval()
        for module in (model.head, model.readout, model.encoder):
            for value in module.parameters():
                if value.ndim > 1:
                    torch.nn.init.normal_(value, std=value.shape[-1] ** -0.5)
        if CONFIGS[name].readout == "prototypes":
            vectors = torch.nn.functional.normalize(torch.randn(CONFIGS[name].prototypes, 16), dim=1)
            model.readout.set_vectors(vectors, torch.full((16,), 0.1))
        return model

    return make
