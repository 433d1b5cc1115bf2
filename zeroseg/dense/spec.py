"""The name of an open_clip or RADIO model: one string for every command and for Segmenter.load.

open_clip:ARCH/TAG              weights that open_clip knows, as open_clip:ViT-B-16/openai
open_clip:ARCH/FILE             a checkpoint file, as open_clip:ViT-B-16/clip/weights.pt
radio:VERSION, radio:FILE       RADIO from torch.hub, as radio:c-radio_v3-b; see zeroseg.dense.radio
...@NAME=VALUE,NAME=VALUE       settings: the fields of DenseSpec from `reading` on, words joined by "+"

Commands also take some of the settings as options (zeroseg.commands.reading), which become part of the name.
"""

import re
from dataclasses import dataclass, fields
from pathlib import Path

from zeroseg.errors import ZerosegError

PREFIX = "open_clip:"
RADIO = "radio"  # instead of an architecture of open_clip's; the prefix is radio:
READINGS = ("maskclip", "sclip", "clearclip", "naclip", "scclip", "sfp")  # zeroseg.dense.readings
TEMPLATES = (1, 7, 80)
# What a photo without the things asked for is likely to show: SCLIP's background words for VOC and COCO-Object.
BACKGROUND = tuple(
    "sky,wall,tree,wood,grass,road,sea,river,mountain,sands,desk,bed,building,cloud,lamp,door,window,wardrobe,ceiling,"
    "shelf,curtain,stair,floor,hill,rail,fence".split(",")
)


@dataclass(frozen=True)
class DenseSpec:
    """An open_clip or RADIO model and its settings; None: see `zeroseg.dense.model`.

    arch        open_clip's name of the architecture, or radio.
    weights     a tag that open_clip knows for it or a version of RADIO, or a checkpoint file.
    reading     maskclip, sclip, clearclip, naclip, scclip or sfp.
    templates   number of prompt templates per label: 1, CLIP's best 7, or the 80 of ImageNet.
    short_side  px, of the resized photo before it is cut into windows.
    window      px, side of the windows; stride: distance between windows.
    background  words that mean background; (): none, so that every pixel gets a label.
    helper      replaces the reading by a helper's likeness of patches: a name or a file of zeroseg.dense.helper.
    denoise     a label whose best place has a smaller probability than this is dropped; 0: none is.
    """

    arch: str
    weights: str
    reading: str | None = None
    templates: int = 80
    short_side: int | None = None
    window: int | None = None
    stride: int | None = None
    background: tuple[str, ...] = BACKGROUND
    helper: str | None = None
    denoise: float = 0.0

    def towers(self) -> str:
        """The name without settings."""
        return f"{RADIO}:{self.weights}" if self.arch == RADIO else f"{PREFIX}{self.arch}/{self.weights}"


def is_dense_name(name) -> bool:
    """Whether a model's name is an open_clip or a RADIO model's."""
    return isinstance(name, str) and name.startswith((PREFIX, f"{RADIO}:"))


def default_output(model: Path | str, suffix: str) -> Path:
    """The default path beside the model; for an open_clip model, its architecture's name in the current folder."""
    return Path(parse_spec(model).arch + suffix) if is_dense_name(model) else Path(model).with_suffix(suffix)


def parse_spec(name: str) -> DenseSpec:
    """Parse a name as in the module docstring; ZerosegError, in one line, if it is wrong."""
    text, settings = _parted(name)
    arch, _, weights = text.removeprefix(PREFIX).partition("/")
    if name.startswith(f"{RADIO}:"):
        arch, weights = RADIO, text.removeprefix(f"{RADIO}:")
        if not weights:
            raise ZerosegError(f"model {name!r}: RADIO needs a version or a file, as in radio:c-radio_v3-b")
        if "reading" in settings or "helper" in settings:
            raise ZerosegError(f"model {name!r}: RADIO has one reading, radseg; leave out reading and helper")
    if not is_dense_name(name) or not arch or not weights:
        raise ZerosegError(f"model {name!r}: open_clip needs ARCH/TAG or ARCH/FILE, as in open_clip:ViT-B-16/openai")
    values = {key: _value(name, key, value) for key, value in settings.items()}
    if "helper" in values and "reading" in values:
        raise ZerosegError(f"model {name!r}: helper: replaces the reading; leave out reading={values['reading']}")
    return DenseSpec(arch, weights, **values)


def with_settings(name: Path | str | None, options: dict[str, str | float | None]) -> Path | str | None:
    """The model's name with the settings that a command's options gave, by the setting's name; None: not given.

    ZerosegError, in one line, for a model that has no settings, for a setting that the name gives another value, and
    for what parse_spec refuses.
    """
    given = {key: str(value) for key, value in options.items() if value is not None}
    for key, value in given.items():
        if not is_dense_name(name):
            raise ZerosegError(
                f"--{key}: {'the bundled model' if name is None else name} is used as it is; the option is for "
                "open_clip and RADIO models, such as open_clip:ViT-B-16/openai"
            )
        if "," in value:  # which separates settings
            raise ZerosegError(f"--{key}: expected a value without a comma, got {value!r}; rename the file")
        said = _parted(name)[1].get(key)
        if said is None:
            name += f"{',' if _parted(name)[1] else '@'}{key}={value}"
        elif _value(name, key, said) != _value(name, key, value):
            raise ZerosegError(f"--{key} {value}: the model's name says {key}={said}; leave out one of the two")
    if given:
        parse_spec(name)
    return name


def _parted(name: str) -> tuple[str, dict[str, str]]:
    """The name without settings, and the settings."""
    found = re.fullmatch(r"(.*?)@(\w+=.*)", name)
    if not found:
        return name, {}
    pairs = (setting.partition("=") for setting in found[2].split(","))
    return found[1], {key: value for key, _, value in pairs}


def _value(name: str, key: str, value: str):
    known = [field.name for field in fields(DenseSpec)[2:]]
    if key not in known:
        raise ZerosegError(f"model {name!r}: no setting {key!r}; there are {', '.join(known)}")
    if key == "reading":
        if value not in READINGS:
            raise ZerosegError(f"model {name!r}: reading: expected {', '.join(READINGS)}, got {value!r}")
        return value
    if key == "helper":
        if not value:
            raise ZerosegError(f"model {name!r}: helper: expected a name or a file, as in helper=dino_vitb8")
        return value
    if key == "denoise":
        if not re.fullmatch(r"\d*\.?\d+(e-?\d+)?", value) or float(value) > 1:
            raise ZerosegError(f"model {name!r}: denoise: expected a probability from 0 to 1, got {value!r}")
        return float(value)
    if key == "background":
        return () if value == "none" else tuple(word.strip() for word in value.split("+") if word.strip())
    if not value.isdecimal() or not 0 < int(value) <= 4096 or (key == "templates" and int(value) not in TEMPLATES):
        wanted = ", ".join(map(str, TEMPLATES)) if key == "templates" else "a number of pixels"
        raise ZerosegError(f"model {name!r}: {key}: expected {wanted}, got {value!r}")
    return int(value)
