"""Options that change what a step costs, not what it computes."""

from dataclasses import replace

import pytest
import torch

from tests.training.test_distill import paper_config, run, weights
from zeroseg.config import ModelConfig
from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.model.zeroseg import ZeroSeg

WEIGHTS = 3e-6  # absolute, after three steps of float32 in another order, in which weights move by up to 5e-4


@pytest.fixture
def config(teacher_config):
    """The paper's recipe, no batch statistic in it; no Gumbel noise, which is drawn per forward pass.

    AdamW's epsilon is large. With a small one the step hardly depends on the size of a gradient near zero, but on its
    rounding.
    """
    config = paper_config(teacher_config, gumbel=False)
    return replace(config, batch=6, micro_batch=6, epochs=1.0, adam_eps=1e-2)


def assert_near(got, wanted):
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, atol=WEIGHTS, rtol=0, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(
    "change", [{"micro_batch": 2}, {"micro_batch": 4}, {"recompute": True}, {"compile": True}], ids=str
)
def test_accumulated_recomputed_and_compiled_steps_equal_plain_ones(config, inputs, monkeypatch, change):
    wanted = weights(run(config, inputs, "plain"))
    compiled = []
    plain = torch.compile
    # the default back end takes a minute (below); what is tested is the captured graph and our way of using it
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or plain(module, backend="eager"))
    assert_near(weights(run(replace(config, **change), inputs, "changed")), wanted)
    assert len(compiled) == ("compile" in change)


def compiler_missing():
    from torch._inductor.exc import InvalidCxxCompiler

    return InvalidCxxCompiler()


@pytest.mark.parametrize(
    ("cause", "kind", "line"),
    [
        (compiler_missing, UnavailableError, r"--compile needs a C\+\+ compiler, and none was found: install g\+\+"),
        (
            lambda: ImportError("/cache/ab/x.main.so: file too short"),
            ZerosegError,
            "--compile: ImportError: /cache/ab/x.main.so: file too short; .* killed while it compiled, "
            "delete its cache .*TORCHINDUCTOR_CACHE_DIR",
        ),
    ],
)
def test_what_stops_the_compiler_is_one_line(config, inputs, monkeypatch, cause, kind, line):
    def broken(graph, examples):
        raise cause()

    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: plain(module, backend=broken))
    with pytest.raises(kind, match=line) as error:
        run(replace(config, compile=True), inputs, "broken")
    assert "\n" not in str(error.value)


def test_recomputed_gradients_are_the_same_and_less_is_kept():
    model = ModelConfig(
        image_size=32,
        patch_size=8,
        width=16,
        depth=3,
        heads=2,
        head_width=16,
        head_heads=2,
        group_tokens=(6, 4),
        output_groups=(6, 4),
        projector_hidden=24,
        drop_path=0.3,
    )
    torch.manual_seed(1)
    student, image, kept, gradients = ZeroSeg(model).train(), torch.rand(3, 3, 32, 32), [], []
    for recompute in (False, True):
        student.encoder.recompute = recompute
        student.zero_grad()
        torch.manual_seed(2)  # of dropped paths and Gumbel noise
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):  # noqa: B023
            loss = student(image).segment_embeddings.square().sum()
        loss.backward()
        kept.append(sum(sizes))
        gradients.append({name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None})
    assert kept[1] < kept[0] and gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        assert torch.equal(gradients[1][name], value), name
