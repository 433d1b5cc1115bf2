"""The convolutional stem against timm's own network, and what it says to wrong weights."""

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file

from zeroseg.config import PRESETS
from zeroseg.errors import ZerosegError
from zeroseg.model.stem import ConvStem, HybridTokens

NAME = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def net():
    """timm's network with BatchNorm statistics that matter."""
    torch.manual_seed(0)
    net = timm.create_model(NAME, num_classes=1000).eval()
    for name, value in net.named_buffers():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return net


@pytest.fixture(scope="module")
def weights(net, tmp_path_factory):
    """As published files are: float16, without BatchNorm's counters."""
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    state = {k: v.half() for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, path)
    net.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    return path


def test_stem_reproduces_timm(net, weights):
    stem = ConvStem(PRESETS["tiny"]).eval()
    stem.load_pretrained(NAME, weights)
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        fine, coarse = stem(image)
        head = stem.head_features(coarse)
        torch.testing.assert_close(head, net.forward_features(image), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(stem.classifier(head.mean((2, 3))), net(image), atol=1e-5, rtol=1e-4)
    assert fine.shape == (2, 112, 4, 6) and coarse.shape == (2, 320, 2, 3)


def test_frozen_norms_ignore_the_batch():
    stem = ConvStem(PRESETS["tiny"]).train()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        fine, _ = stem(image)
        torch.testing.assert_close(stem.eval()(image).fine, fine)


def test_tokens_equal_their_formula():
    stem = ConvStem(PRESETS["tiny"])
    tokens = HybridTokens(replace(PRESETS["tiny"], positions="none"), stem)
    fine, coarse = torch.randn(1, 112, 4, 6), torch.randn(1, 320, 2, 3)
    x, grid = tokens((fine, coarse))
    up = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    expected = torch.einsum("oc,bchw->bhwo", tokens.fine.weight[:, :, 0, 0], fine) + tokens.fine.bias
    # a linear map and interpolation commute
    expected = expected + torch.einsum("oc,bchw->bhwo", tokens.coarse.weight[:, :, 0, 0], up)
    torch.testing.assert_close(x, tokens.norm(expected.reshape(1, 24, -1)), atol=1e-4, rtol=1e-4)
    assert grid == (4, 6)


def test_wrong_weights_are_refused(tmp_path):
    stem = ConvStem(PRESETS["tiny"])
    other = tmp_path / "other.safetensors"
    save_file({"conv_stem.weight": torch.zeros(8, 3, 3, 3)}, other)
    text = tmp_path / "text.safetensors"
    text.write_text("not weights")
    with pytest.raises(ZerosegError, match="not the weights of tf_efficientnet_lite0: .* missing"):
        stem.load_pretrained(NAME, other)
    for path in (text, tmp_path / "missing.safetensors"):
        with pytest.raises(ZerosegError, match="cannot be read as a safetensors file"):
            stem.load_pretrained(NAME, path)


@pytest.mark.parametrize("name, message", [("no_such_net", "no model called"), ("resnet18", "EfficientNet family")])
def test_wrong_networks_are_refused(name, message):
    with pytest.raises(ZerosegError, match=message):
        ConvStem(replace(PRESETS["tiny"], stem=name))
