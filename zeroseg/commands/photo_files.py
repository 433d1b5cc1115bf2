"""The files of zeroseg-infer: which photos it reads, where their results go.

Results say who wrote them (a PNG in its text, the JSON by its keys). A file without that is the user's: a folder's
pictures are photos, and nothing is written over it.
"""

import glob
import json
import os
from collections.abc import Iterable
from pathlib import Path

import click
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from zeroseg.errors import ZerosegError
from zeroseg.files import whole_file
from zeroseg.image import SUFFIXES

SUFFIX_OF = {"overlay": "_overlay.png", "labels": "_labels.png", "json": ".json"}
CONTACT_NAME = "contact.png"
_SOFTWARE = ("Software", "zeroseg")  # a text chunk that Pillow writes ahead of the pixels
_HEAD_BYTES = 4096
PNG_LEVEL = 1  # zlib's fastest: a third of the time and a third more room than level 6


def find_photos(sources: list[str]) -> tuple[list[Path], int]:
    """The photos behind files, folders and globs, each once, in order; and how many sources gave none (reported)."""
    photos, failed = {}, 0
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = photos_of_folder(path)
            problem = f"{path}: no pictures in this folder"
        elif not path.exists() and glob.has_magic(source):
            found = sorted(Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file())
            problem = f"{source}: no file fits this pattern"
        else:
            found, problem = [path], ""  # reading it says what is wrong with it
        if not found:
            failed += 1
            click.echo(f"Error: {problem}", err=True)
        photos |= {os.path.abspath(photo): photo for photo in found if os.path.abspath(photo) not in photos}
    return list(photos.values()), failed


def photos_of_folder(folder: Path) -> list[Path]:
    """The pictures of a folder by suffix, without those that an earlier run wrote beside their photos."""
    ours = (SUFFIX_OF["overlay"], SUFFIX_OF["labels"], CONTACT_NAME)
    photos = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES)
    return [photo for photo in photos if not (photo.name.endswith(ours) and is_ours(photo))]


def is_ours(path: Path) -> bool:
    """Whether an earlier run wrote this file."""
    try:
        if path.suffix == ".json":
            document = json.loads(path.read_bytes())
            return isinstance(document, dict) and {"model", "timings_ms"} <= document.keys()
        with open(path, "rb") as file:
            return b"tEXt" + "\0".join(_SOFTWARE).encode() in file.read(_HEAD_BYTES)
    except (OSError, ValueError, RecursionError):  # what cannot be read is not ours to lose
        return False


def plan_outputs(photos: list[Path], out: Path, kinds: Iterable[str]) -> dict[Path, dict[str, Path]]:
    """Where each photo's results go: stems are numbered where two photos share one.

    Raises ZerosegError where a file would be overwritten that zeroseg did not write.
    """
    inputs = {os.path.realpath(photo) for photo in photos}
    taken: set[str] = set()
    outputs = {}
    for photo in photos:
        stem, number = photo.stem, 1
        while stem in taken:
            number += 1
            stem = f"{photo.stem}-{number}"
        taken.add(stem)
        outputs[photo] = {kind: out / f"{stem}{SUFFIX_OF[kind]}" for kind in kinds if kind in SUFFIX_OF}
    sheet = [out / CONTACT_NAME] if "contact" in kinds else []
    for path in [*(path for files in outputs.values() for path in files.values()), *sheet]:
        if os.path.realpath(path) in inputs:
            raise ZerosegError(f"{path}: is one of the photos and would be overwritten; choose another --out")
        if os.path.lexists(path) and not is_ours(path):
            raise ZerosegError(f"{path}: is not zeroseg's and would be overwritten; choose another --out")
    return outputs


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG that is_ours() knows again."""
    signature = PngInfo()
    signature.add_text(*_SOFTWARE)
    with whole_file(path) as partial:
        picture.save(partial, format="PNG", compress_level=PNG_LEVEL, pnginfo=signature)


def save_json(path: Path, document: dict) -> None:
    """Write JSON."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
