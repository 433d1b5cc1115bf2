"""Build the helper teachers that a recipe names, and the text vectors of the names they speak of."""

import torch

from zeroseg.errors import ZerosegError
from zeroseg.training.recipes import PartsConfig, TrainConfig
from zeroseg.training.teachers.combine import NameVectors
from zeroseg.training.teachers.detectors import DETECTORS
from zeroseg.training.teachers.dino import Dino, TimmDino
from zeroseg.training.teachers.part import Part
from zeroseg.training.teachers.persons import Persons
from zeroseg.training.teachers.streets import NAMES, Streets

WORDS_SPACE = "openai/clip-vit-base-patch32"  # of the bundled words table
RIDER = "person"  # what a "rider" of Cityscapes is called


def build_parts(config: TrainConfig, device: str = "cpu") -> list[Part]:
    """The parts in the order in which they are to be computed. ZerosegError where one cannot be had.

    device  of a DINO of timm; every other helper runs on the CPU.
    """
    parts = config.parts
    check_parts(parts)
    if not any_part(parts):
        return []
    files = parts.saliency or parts.detectors or parts.persons or parts.streets or not parts.dino
    if parts.weights is None and files:
        raise ZerosegError("teachers: the recipe has helper teachers; give the folder of their files: --helper-weights")
    built: list[Part] = []
    if parts.dino:
        built.append(TimmDino(parts.dino, parts.weights, parts.short_side, config.diffusion, device))
    elif parts.walk or parts.saliency or parts.detectors:
        built.append(Dino(parts.weights, parts.short_side, config.diffusion))
    built += [DETECTORS[name](parts.weights, parts.box_score) for name in parts.detectors]
    if parts.persons:
        built.append(Persons(parts.weights, parts.person_score))
    if parts.streets:
        built.append(Streets(parts.weights, parts.streets, parts.stuff))
    return built


def any_part(parts: PartsConfig) -> bool:
    """Whether there is a helper at all."""
    return bool(parts.walk or parts.saliency or parts.detectors or parts.persons or parts.streets)


def check_parts(parts: PartsConfig) -> None:
    """ZerosegError for parts that do not fit together."""
    unknown = [name for name in parts.detectors if name not in DETECTORS]
    if unknown:
        raise ZerosegError(f"parts.detectors: expected some of {', '.join(DETECTORS)}, got {unknown[0]!r}")
    if parts.dino and parts.saliency:
        raise ZerosegError(
            "parts.dino: a ViT of timm does not say what stands out; set parts.saliency=false, or parts.dino=null"
        )
    if parts.dino and not (parts.walk or parts.detectors):
        raise ZerosegError("parts.dino: nothing uses its affinity; set parts.walk=true")
    if parts.stuff and not parts.streets:
        raise ZerosegError("parts.stuff: the network for streets gives these names; set parts.streets too")
    if parts.persons and "nanodet" not in parts.detectors:
        raise ZerosegError("parts.persons: person masks are cut by nanodet's boxes; add nanodet to parts.detectors")


def spoken_names(parts: PartsConfig) -> list[str]:
    """The names that boxes and streets teach, each once."""
    from zeroseg.evaluation.class_names import COCO_THINGS

    names = [*(COCO_THINGS if parts.detectors else ()), *(NAMES if parts.streets else ())]
    return list(dict.fromkeys(RIDER if name == "rider" else name for name in names))


def more_prototypes(rows: torch.Tensor, centre: torch.Tensor, names: list[str]) -> torch.Tensor:
    """A readout's vectors (P, D) with those of more names after them."""
    return torch.cat([rows, directions(names, centre)]) if names else rows


def directions(names: list[str], centre: torch.Tensor) -> torch.Tensor:
    """Unit directions of names, measured from centre (D,): (n, D) float32."""
    from zeroseg.words.embed import embed_labels

    vectors = torch.from_numpy(embed_labels(names).vectors).float()
    return torch.nn.functional.normalize(vectors - centre, dim=1)


def name_vectors(space: str, centre: torch.Tensor) -> NameVectors:
    """Unit directions, measured from centre (D,), of COCO's 80 things and Cityscapes' 19 classes.

    ZerosegError for a space other than the words table's.
    """
    from zeroseg.evaluation.class_names import COCO_THINGS

    if space != WORDS_SPACE:
        raise ZerosegError(
            f"teachers: boxes and streets need text vectors of {space}; the words table has {WORDS_SPACE}"
        )
    streets = [RIDER if name == "rider" else name for name in NAMES]
    return NameVectors(directions(list(COCO_THINGS), centre), directions(streets, centre))
