"""Text sides that need a package which zeroseg does not ask for: the message names it."""

import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from zeroseg.dense.radio import load_radio  # noqa: E402
from zeroseg.dense.weights import TextSide  # noqa: E402
from zeroseg.errors import UnavailableError  # noqa: E402


@pytest.mark.parametrize("arch", ["ViT-B-16-SigLIP2", "ViT-B-16-SigLIP"])
def test_a_tokenizer_without_transformers_names_the_package(arch, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UnavailableError) as error:
        TextSide(arch, torch.nn.Linear(1, 1)).vectors(["a cat"])
    assert str(error.value) == (
        f"tokenizer of {arch}: needs transformers, which is not installed: pip install transformers"
    )


def test_radio_without_transformers_names_the_package(monkeypatch):
    def load(*names, **options):
        import transformers  # noqa: F401 as its adaptor does

    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(torch.hub, "load", load)
    with pytest.raises(UnavailableError, match="RADIO c-radio_v3-b: needs transformers, .*: pip install transformers"):
        load_radio("c-radio_v3-b")
