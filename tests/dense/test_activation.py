"""Weights run with the activation they were trained with: a tag by open_clip's entry, OpenAI's archive by itself."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")
pytest.importorskip("timm")

from tests.dense import tiny_towers  # noqa: E402
from zeroseg.dense import weights  # noqa: E402
from zeroseg.dense.spec import parse_spec  # noqa: E402
from zeroseg.dense.text import _cache_file  # noqa: E402
from zeroseg.errors import ZerosegError  # noqa: E402
from zeroseg.words import LabelPack  # noqa: E402

TAGS = [  # one per family with QuickGELU under a plain name, and some without
    ("ViT-B-32/openai", True),
    ("ViT-B-16/openai", True),
    ("ViT-L-14-336/openai", True),
    ("RN50/yfcc15m", True),
    ("RN50/cc12m", True),
    ("ViT-B-32/laion400m_e32", True),
    ("ViT-B-16/metaclip_400m", True),
    ("ViT-L-14/metaclip_fullcc", True),
    ("ViT-B-16/dfn2b", True),
    ("ViT-H-14/dfn5b", True),
    ("ViT-H-14-worldwide/metaclip2_worldwide", True),
    ("ViT-B-16-quickgelu/openai", True),
    ("ViT-B-16/laion400m_e32", False),
    ("ViT-B-32/laion2b_s34b_b79k", False),
    ("ViT-B-16-SigLIP/webli", False),
    ("MobileCLIP-S1/datacompdr", False),
]
X = np.linspace(-4, 4, 33, dtype=np.float32)
QUICK, PLAIN = X / (1 + np.exp(-1.702 * X)), torch.nn.functional.gelu(torch.from_numpy(X)).numpy()


def activation(module: torch.nn.Module) -> np.ndarray:
    """What the first feed-forward's activation makes of X."""
    name, gelu = next((n, m) for n, m in module.named_modules() if n.endswith("mlp.gelu") or n.endswith("mlp.act"))
    return gelu(torch.from_numpy(X)).numpy()


@pytest.fixture
def no_weights(monkeypatch):
    """open_clip builds a small model of the architecture asked for, and loads nothing."""
    real, small = (
        open_clip.create_model,
        {"layers": 1, "width": 64, "head_width": 64, "patch_size": 16, "image_size": 32},
    )

    def create(arch, pretrained=None, device="cpu", force_quick_gelu=False, **other):
        config = open_clip.get_model_config(arch)
        timm_model = "timm_model_name" in config["vision_cfg"]
        resnet = isinstance(config["vision_cfg"]["layers"], list) if not timm_model else False
        name = "zeroseg-" + arch.lower()
        if not timm_model and not resnet:
            config["vision_cfg"] = config["vision_cfg"] | small
            config["vision_cfg"].pop("mlp_ratio", None)
        config["text_cfg"] = {"context_length": 8, "vocab_size": 50, "width": 64, "heads": 1, "layers": 1}
        config["embed_dim"] = 8 if not resnet else config["embed_dim"]
        path = create.folder / f"{name}.json"
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)
        return real(name, device=device, force_quick_gelu=force_quick_gelu)

    def use(folder):
        create.folder = folder
        monkeypatch.setattr(open_clip, "create_model", create)

    return use


@pytest.mark.parametrize(("name", "quick"), TAGS, ids=[name for name, _ in TAGS])
def test_a_tag_s_weights_have_their_activation(name, quick, no_weights, tmp_path):
    arch, tag = name.split("/")
    no_weights(tmp_path)
    model = weights.load_open_clip(arch, tag)
    wanted = QUICK if quick else PLAIN
    np.testing.assert_allclose(
        activation(model.transformer if hasattr(model, "transformer") else model.text), wanted, atol=2e-6
    )
    if arch.startswith("ViT") and "SigLIP" not in arch:
        np.testing.assert_allclose(activation(model.visual), wanted, atol=2e-6)
    assert np.abs(QUICK - PLAIN).max() > 1e-2


class Archive(torch.nn.Module):
    """A model's weights and OpenAI's three sizes; scripting keeps names, as OpenAI's archives do."""

    def __init__(self, model, sizes=True):
        super().__init__()
        for name, child in model.named_children():
            setattr(self, name, Archive(child, False))
        for name, value in model.named_parameters(recurse=False):
            setattr(self, name, torch.nn.Parameter(value.half(), requires_grad=False))
        for name, value in model.named_buffers(recurse=False):
            if name in model.state_dict():
                self.register_buffer(name, value)
        if sizes:
            for name, value in (("input_resolution", 64), ("context_length", 77), ("vocab_size", 49408)):
                self.register_buffer(name, torch.tensor(value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture
def archive(tmp_path):
    tiny_towers.save("class-token", tmp_path)
    model = tiny_towers.make("class-token")
    for value in model.parameters():
        value.copy_(value.half())
    torch.jit.save(torch.jit.script(Archive(model)), tmp_path / "ViT.pt")
    return model, tmp_path / "ViT.pt"


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_openai_s_archive_is_read_and_runs_with_quick_gelu(archive):
    model, path = archive
    loaded = weights.load_open_clip("zeroseg-tiny", str(path))
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    np.testing.assert_allclose(activation(loaded.visual), QUICK, atol=2e-6)
    quick = open_clip.create_model("zeroseg-tiny", force_quick_gelu=True).eval()
    quick.load_state_dict(model.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode_image(image), quick.encode_image(image), atol=1e-6, rtol=0)
        assert (loaded.encode_image(image) - model.encode_image(image)).abs().max() > 1e-4


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_teacher_runs_with_it_too_and_its_caches_say_so(archive, tmp_path):
    from zeroseg.training.build_teacher import build_teacher
    from zeroseg.training.recipes import TeacherConfig

    model, path = archive
    quick = open_clip.create_model("zeroseg-tiny", force_quick_gelu=True).eval()
    quick.load_state_dict(model.state_dict())
    teacher, crops = build_teacher(TeacherConfig(f"open_clip:zeroseg-tiny/{path}")), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = quick.encode_image((crops - teacher.mean) / teacher.std, normalize=True)
    torch.testing.assert_close(teacher.embed(crops), expected, atol=1e-6, rtol=0)
    assert teacher.fingerprint["activation"] == "quick_gelu"
    plain = build_teacher(TeacherConfig(f"open_clip:zeroseg-tiny/{tmp_path / 'zeroseg-tiny.pt'}"))
    assert "activation" not in plain.fingerprint and (plain.embed(crops) - expected).abs().max() > 1e-4


def test_a_plain_file_has_the_architecture_s_activation(tmp_path):
    path = tiny_towers.save("class-token", tmp_path)
    assert not weights.is_openai_archive(path)
    np.testing.assert_allclose(activation(weights.load_open_clip("zeroseg-tiny", str(path)).visual), PLAIN, atol=2e-6)


def test_vectors_of_the_text_cache_from_before_are_not_taken(tmp_path):
    """The name of a cache file of version 1, as it was made before."""
    import hashlib

    spec = parse_spec("open_clip:ViT-B-16/openai")
    old = hashlib.sha256(b"1 ViT-B-16 openai 80").hexdigest()[:32]
    assert _cache_file(spec, tmp_path).stem != old


def old_pack(path, space, nearest=("", ""), without=()):
    """A pack as zeroseg wrote it before editions, or without some of its arrays, as others write it."""
    arrays = {
        "names": np.array(["cat", "dog"]),
        "vectors": np.eye(2, 512, dtype=np.float32),
        "space": np.array(space),
        "known": np.ones(2, bool),
        "nearest": np.array(nearest),
    }
    np.savez(path, **{name: value for name, value in arrays.items() if name not in without})
    return path


@pytest.mark.parametrize(
    ("space", "refused"),
    [
        ("openai/clip-vit-base-patch32", True),
        ("openai/clip-vit-base-patch16", True),
        ("open_clip/ViT-B-16/metaclip_400m", True),
        ("open_clip/ViT-B-16/dfn2b", True),
        ("open_clip/ViT-B-16-quickgelu/metaclip_400m", False),
        ("open_clip/ViT-B-32/laion2b_s34b_b79k", False),
        ("open_clip/ViT-B-16/weights.pt", False),
        ("mine", False),
    ],
)
def test_packs_of_wrongly_run_towers_are_refused(tmp_path, space, refused):
    path = old_pack(tmp_path / "labels.npz", space)
    if refused:
        with pytest.raises(ZerosegError, match="with GELU, but these weights need QuickGELU; make it again") as error:
            LabelPack.load(path)
        assert "\n" not in str(error.value)
    else:
        assert LabelPack.load(path).names == ["cat", "dog"]
    pack = LabelPack.load(old_pack(tmp_path / "table.npz", space, ("tabby (0.9)", "")))  # of the word table
    assert LabelPack.load(old_pack(tmp_path / "made.npz", space, without=("known", "nearest"))).space == space
    assert LabelPack.load(pack.save(tmp_path / "new.npz")).space == space
    assert LabelPack.load(LabelPack(["cat"], np.eye(1, 512, dtype=np.float32), space).save(tmp_path / "b.npz"))
