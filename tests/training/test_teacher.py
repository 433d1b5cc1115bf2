"""Both kinds of teacher on random weights, against what timm and open_clip compute, and every way to fail."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.training.build_teacher import build_teacher
from zeroseg.training.classifiers import ClassifierEnsemble
from zeroseg.training.conse import class_vectors, read_logits
from zeroseg.training.forward import FrozenForward
from zeroseg.training.recipes import TeacherConfig
from zeroseg.training.teacher import to_tensor

NET = "test_efficientnet"
ARCH = "zeroseg-test-vit"


def timm_net(folder):
    from safetensors.torch import load_file

    net = timm.create_model(NET, num_classes=10)
    net.load_state_dict(load_file(folder / f"{NET}.safetensors"))
    return net.eval()


@pytest.mark.parametrize("impl", ["torch", "onnxruntime"])
def test_classifier_embeds_as_timm_predicts(labels, teacher_config, teacher_folder, impl):
    teacher = build_teacher(teacher_config, labels, impl=impl)
    assert (teacher.space, teacher.dim, teacher.view_size, teacher.has_dense) == ("test/space", 16, 32, True)
    crops = torch.rand(3, 3, 32, 32)
    net = timm_net(teacher_folder)
    mean, std = (torch.tensor(net.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        logits = net((crops - mean) / std)
    vectors = torch.from_numpy(class_vectors(labels, teacher_config.conse))
    wanted = read_logits(logits[:, None, None], vectors, teacher_config.conse)[:, 0, 0]
    torch.testing.assert_close(teacher.embed(crops), wanted, atol=1e-4, rtol=1e-3)


def test_dense_map_has_its_stride_and_the_photo_s_shape(labels, teacher_config):
    teacher = build_teacher(teacher_config, labels, impl="torch")
    assert teacher.dense_size((100, 50)) == (64, 128) and teacher.dense_size((40, 60)) == (96, 64)
    assert teacher.dense_size((1000, 50)) == (64, 128)  # long photos are squeezed
    places = teacher.dense(torch.rand(1, 3, 64, 96))
    assert places.shape == (1, 4, 6, 16) and (places.norm(dim=-1) <= 1.0001).all() and places.std() > 0


def test_logits_of_several_networks_are_averaged(labels, teacher_config, teacher_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(teacher_folder / f"{NET}.safetensors")
    save_file(state, tmp_path / f"{NET}.safetensors")
    torch.manual_seed(9)
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), tmp_path / "test_resnet.safetensors")
    config = replace(teacher_config, spec=f"timm:{NET}+test_resnet", weights=str(tmp_path))
    teachers = [
        ClassifierEnsemble(replace(config, spec=spec), labels, impl="torch")
        for spec in (config.spec, f"timm:{NET}", "timm:test_resnet")
    ]
    images = torch.rand(1, 3, 64, 64)
    both, one, other = (teacher._logits(images, 16) for teacher in teachers)
    torch.testing.assert_close(both, (one + other) / 2)


def test_tensorflow_weights_change_padding_and_inputs(labels, teacher_config):
    images = torch.rand(1, 3, 64, 64)
    plain = build_teacher(teacher_config, labels, impl="torch")
    other = build_teacher(replace(teacher_config, tf_weights=(NET,)), labels, impl="torch")
    assert plain.fingerprint != other.fingerprint
    assert (plain.dense(images) - other.dense(images)).abs().max() > 1e-6
    assert other._nets[16][0].module.mean.flatten().tolist() == [0.5] * 3


def test_fingerprint_follows_what_changes_the_output(labels, teacher_config):
    base = ClassifierEnsemble(teacher_config, labels).fingerprint
    assert base == ClassifierEnsemble(replace(teacher_config), labels).fingerprint
    conse = teacher_config.conse
    for change in (
        {"view_size": 64},
        {"dense_short_side": 96},
        {"conse": replace(conse, depth_decay=0.5)},
        {"conse": replace(conse, name_context=2.0)},
    ):
        assert ClassifierEnsemble(replace(teacher_config, **change), labels).fingerprint != base
    json.dumps(base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": "clip"}, "expected open_clip:ARCH"),
        ({"spec": "timm:"}, "expected open_clip:ARCH"),
        ({"spec": "timm:no_such_net"}, "timm has no network 'no_such_net'"),
        ({"spec": "timm:test_vit"}, "test_vit.safetensors is missing"),
        ({"weights": "/nowhere"}, "is missing; leave --teacher-weights out"),
        ({"spec": "open_clip:NoSuchArch/openai"}, "open_clip has no architecture"),
        ({"spec": "open_clip:ViT-B-32/no_such_tag"}, "open_clip has no weights 'no_such_tag'"),
        ({"spec": "open_clip:ViT-B-32/absent.pt"}, "there is no file absent.pt"),
        ({"spec": "open_clip:ViT-B-32"}, "open_clip needs ARCH/TAG"),
    ],
)
def test_teachers_that_cannot_be_had_are_one_line(labels, teacher_config, change, message):
    with pytest.raises(ZerosegError, match=message) as error:
        build_teacher(replace(teacher_config, **change), labels)
    assert "\n" not in str(error.value)


def test_classifier_without_labels_and_with_wrong_weights(labels, teacher_config, tmp_path):
    with pytest.raises(ZerosegError, match="give --labels DIR"):
        build_teacher(teacher_config)
    (tmp_path / f"{NET}.safetensors").write_bytes(b"nothing")
    teacher = build_teacher(replace(teacher_config, weights=str(tmp_path)), labels)
    with pytest.raises(ZerosegError, match="does not fit timm's test_efficientnet") as error:
        teacher.embed(torch.rand(1, 3, 32, 32))
    assert "\n" not in str(error.value)


def test_hub_that_does_not_answer_is_one_line(labels, teacher_config, monkeypatch):
    import open_clip

    def refuse(*args, **options):
        raise RuntimeError("cannot reach\nthe hub")

    monkeypatch.setattr(open_clip, "create_model", refuse)
    with pytest.raises(
        UnavailableError, match="weights of the teacher ViT-B-32/openai could not be downloaded"
    ) as error:
        build_teacher(TeacherConfig("open_clip:ViT-B-32/openai"))
    assert "\n" not in str(error.value)
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *a, pretrained=False, **o: refuse() if pretrained else create(*a, **o)
    )
    ten = build_teacher(replace(teacher_config, weights=None), labels)
    with pytest.raises(ZerosegError, match="has 1000 classes, the class names 10"):
        ten.embed(torch.rand(1, 3, 32, 32))
    labels = replace(labels, classes=labels.classes * 100)
    thousand = build_teacher(replace(teacher_config, weights=None), labels)
    with pytest.raises(UnavailableError, match="test_efficientnet could not be downloaded; give --teacher-weights"):
        thousand.embed(torch.rand(1, 3, 32, 32))


@pytest.fixture
def clip_file(tmp_path):
    """A tiny CLIP with random weights, registered with open_clip under ARCH, and its checkpoint file."""
    import open_clip

    config = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1},
    }
    (tmp_path / f"{ARCH}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / f"{ARCH}.json")
    torch.manual_seed(5)
    model = open_clip.create_model(ARCH)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return model.eval(), tmp_path / "weights.pt"


def test_open_clip_tower_from_a_local_file(clip_file):
    model, path = clip_file
    teacher = build_teacher(TeacherConfig(f"open_clip:{ARCH}/{path}"))
    assert (teacher.dim, teacher.view_size, teacher.space) == (12, 32, f"open_clip/{ARCH}/weights.pt")
    crops = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (model.visual.image_mean, model.visual.image_std))
    with torch.no_grad():
        wanted = model.encode_image((crops - mean) / std, normalize=True)
    torch.testing.assert_close(teacher.embed(crops), wanted)


def test_open_clip_dense_map_keeps_each_token_s_own_value(clip_file):
    model, path = clip_file
    teacher = build_teacher(TeacherConfig(f"open_clip:{ARCH}/{path}", reading="maskclip"))
    assert teacher.has_dense and teacher.dense_size((100, 50)) == (32, 32)
    images = torch.rand(1, 3, 32, 32)
    places = teacher.dense(images)
    assert places.shape == (1, 4, 4, 12)
    torch.testing.assert_close(places.norm(dim=-1), torch.ones(1, 4, 4))
    # with an identity in place of attention's mixing, the block itself gives the same tokens
    visual = model.visual
    caught = []
    handle = visual.transformer.resblocks[-1].register_forward_pre_hook(lambda m, a: caught.append(a[0]))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (visual.image_mean, visual.image_std))
    with torch.no_grad():
        visual((images - mean) / std)
        handle.remove()
        block, x = visual.transformer.resblocks[-1], caught[0]
        alone = [block(token[:, None]) for token in x[:, 1:].unbind(1)]  # a token alone attends only to itself
        wanted = torch.cat([visual.ln_post(token) @ visual.proj for token in alone], 1)
    wanted = torch.nn.functional.normalize(wanted, dim=-1).view(1, 4, 4, 12)
    torch.testing.assert_close(places, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("reading", ["maskclip", "sclip", "clearclip", "naclip"])
def test_open_clip_dense_map_follows_the_reading_s_formula(clip_file, reading):
    model, path = clip_file
    visual, block, caught = model.visual, model.visual.transformer.resblocks[-1], []
    teacher = build_teacher(TeacherConfig(f"open_clip:{ARCH}/{path}", reading=reading))
    images = torch.rand(2, 3, 32, 32)
    handle = block.register_forward_pre_hook(lambda m, a: caught.append(a[0]))
    y, x = (index.flatten().float() for index in torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"))
    near = torch.zeros(17, 17)  # the class token has no place
    near[1:, 1:] = torch.exp(-((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / (2 * 5.0**2))
    with torch.no_grad():
        visual((images - teacher.mean) / teacher.std)
        handle.remove()
        tokens = caught[0]
        packed = block.ln_1(tokens) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
        q, k, v = (part.view(2, 17, 2, 32).transpose(1, 2) for part in packed.chunk(3, -1))
        alike = {"qq": q @ q.mT / 32**0.5, "kk": k @ k.mT / 32**0.5}
        weights = {
            "maskclip": torch.eye(17),
            "sclip": alike["qq"].softmax(-1) + alike["kk"].softmax(-1),
            "clearclip": alike["qq"].softmax(-1),
            "naclip": (alike["kk"] + near).softmax(-1),
        }[reading]
        out = block.attn.out_proj((weights @ v).transpose(1, 2).flatten(2))
        if reading in ("maskclip", "sclip"):  # the rest of the block is kept
            out = tokens + out
            out = out + block.mlp(block.ln_2(out))
        wanted = torch.nn.functional.normalize(visual.ln_post(out[:, 1:]) @ visual.proj, dim=-1).view(2, 4, 4, 12)
    torch.testing.assert_close(teacher.dense(images), wanted, atol=1e-5, rtol=1e-4)
    default = build_teacher(TeacherConfig(f"open_clip:{ARCH}/{path}"))
    assert (default.fingerprint == teacher.fingerprint) == (reading == "naclip")  # the best for two blocks


def test_readings_that_a_teacher_does_not_have_are_one_line(labels, teacher_config):
    for config, message in (
        (replace(teacher_config, reading="naclip"), "a classifier has no attention variant 'naclip'"),
        (replace(teacher_config, helper="dino_vitb8"), "only an open_clip teacher takes a helper; leave --helper out"),
        (TeacherConfig("radio:c-radio_v3-b", helper="dino_vitb8"), "only an open_clip teacher takes a helper"),
        (TeacherConfig("open_clip:ViT-B-32/openai", reading="such"), "reading: expected one of"),
        (TeacherConfig("open_clip:ViT-B-32/openai", reading="sfp", helper="x"), "a helper replaces the reading; leave"),
    ):
        with pytest.raises(ZerosegError, match=message) as error:
            build_teacher(config, labels)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"visual.proj": torch.zeros(2, 2)}, f"teacher: .*other.pt does not fit open_clip's {ARCH}"),
        (b"\x80\x02}q\x01.", f"teacher: .*other.pt does not fit open_clip's {ARCH}"),
        (
            b"\xff\xd8\xff\xe0\x00\x10JFIF",
            "teacher: .*other.pt contains no weights; expected a file from torch.save or safete",
        ),
        (b"", "teacher: .*other.pt contains no weights"),
    ],
    ids=["weights", "pickle", "photo", "empty"],
)
def test_wrong_open_clip_file_is_one_line(clip_file, tmp_path, content, message):
    path = tmp_path / "other.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ZerosegError, match=message) as error:
        build_teacher(TeacherConfig(f"open_clip:{ARCH}/{path}"))
    assert "\n" not in str(error.value)


def test_frozen_forward_falls_back_to_torch_and_says_why():
    class Shapely(torch.nn.Module):
        """Its trace freezes the traced width."""

        def forward(self, images):
            return images * int(images.shape[-1])

    forward = FrozenForward(Shapely(), 8)
    assert forward.impl == "torch" and "differs" in forward.why
    images = torch.rand(1, 3, 8, 16)
    torch.testing.assert_close(forward(images)[0], images * 16)
    with pytest.raises(RuntimeError, match="cannot run this network"):
        FrozenForward(Shapely(), 8, impl="onnxruntime")
    pytest.importorskip("onnxruntime")
    plain = FrozenForward(torch.nn.Conv2d(3, 2, 3, padding=1), 8)
    assert plain.impl == "onnxruntime" and plain.why == ""


def test_images_become_tensors():
    pixels = np.random.default_rng(0).integers(256, size=(4, 6, 3)).astype(np.uint8)
    got = to_tensor([Image.fromarray(pixels), pixels])
    np.testing.assert_allclose(got[0], pixels.transpose(2, 0, 1) / 255, rtol=1e-6)
    assert torch.equal(got[0], got[1])
