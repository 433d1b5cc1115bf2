"""No teacher without its supervision: in what -n prints and in the card."""

from dataclasses import asdict, replace

import pytest
from click.testing import CliRunner

from zeroseg.errors import ZerosegError
from zeroseg.training import model_card
from zeroseg.training.gather_photos import SOURCES
from zeroseg.training.recipes import RECIPES
from zeroseg.training.teachers.build import build_parts, check_parts, spoken_names
from zeroseg.training.teachers.described import describe, lines, tuned, zero_shot

SUPERVISION = {
    "everyday": ["ImageNet", "saliency annotations", "COCO train2017's boxes", "person masks", "Cityscapes' masks"],
    "imagenet": ["ImageNet", "saliency annotations"],
    "dense": ["ImageNet"],
}
SIDECAR = {
    "name": "tiny",
    "embedding_space": "openai/clip-vit-base-patch32",
    "embedding_dim": 512,
    "segments": 8,
    "input": {"short_side": 288, "multiple": 32},
    "threshold": 0.25,
    "card": {"photos": 538, "epochs": 4},
}


@pytest.mark.parametrize("recipe", SUPERVISION)
def test_every_supervision_is_named(recipe):
    text = "\n".join(lines(RECIPES[recipe]))
    for words in SUPERVISION["everyday"]:
        assert (words in text) == (words in SUPERVISION[recipe])
    assert ("NOT zero-shot" in text) == (recipe == "everyday")
    constants = tuned(RECIPES[recipe])
    assert ("boxes" in constants, "coco-dev" in constants, "score share" in constants) == {
        "everyday": (True, True, True),
        "imagenet": (False, False, True),
        "dense": (False, False, False),
    }[recipe]


def test_the_paper_recipe_has_one_teacher():
    [only] = describe(RECIPES["paper"])
    assert only.name == "open_clip:ViT-L-14/openai" and "image-text" in only.supervised_by


def test_the_probe_is_named():
    assert "faces" in "\n".join(lines(RECIPES["dense"].set("teacher.probe", "probe.npz")))


@pytest.mark.parametrize("recipe", SUPERVISION)
def test_the_card_has_teachers_photos_and_constants(recipe):
    config = RECIPES[recipe]
    text = model_card.card({"config": config.to_dict(), "inputs": {"initial": "a.pt"}}, SIDECAR, ["Balanced."])
    for item in describe(config):
        for value in asdict(item).values():
            assert value in text
    assert zero_shot(config) in text
    assert all(source.licence in text for source in SOURCES)
    assert "- Balanced." in text and "538 photos" in text and "0.250" in text and "weights of another student" in text
    assert ("VOC-animals dev" in text) == config.parts.walk


def test_a_detector_without_description_is_refused():
    config = RECIPES["everyday"]
    config = replace(config, parts=replace(config.parts, detectors=("nanodet", "yolo")))
    with pytest.raises(ZerosegError, match="yolo is not described"):
        describe(config)
    with pytest.raises(ZerosegError, match="expected some of nanodet, centernet"):
        check_parts(config.parts)


def test_persons_need_boxes():
    with pytest.raises(ZerosegError, match="add nanodet"):
        check_parts(replace(RECIPES["everyday"].parts, detectors=("centernet",)))


def test_helpers_need_their_folder():
    with pytest.raises(ZerosegError, match="--helper-weights"):
        build_parts(RECIPES["imagenet"])


def test_names_of_boxes_and_streets_come_once():
    names = spoken_names(RECIPES["everyday"].parts)
    assert len(names) == len(set(names)) == 90
    assert {"person", "car", "road", "sky", "tree"} <= set(names) and "rider" not in names
    assert RECIPES["everyday"].model_config().prototypes == 1000 + 90  # person is the clothes' name already


def test_card_of_a_run_that_is_not_there(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")
    done = CliRunner().invoke(
        model_card.main, [str(tmp_path / "model.pt"), "--run", str(tmp_path), "-o", str(tmp_path / "card.md")]
    )
    assert done.exit_code and "no config.json" in done.output and "Traceback" not in done.output
