"""The files of zeroseg-infer: which photos it reads, where their results go."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

import click

from zeroseg.errors import ZerosegError
from zeroseg.image import SUFFIXES

SUFFIX_OF = {"overlay": "_overlay.png", "labels": "_labels.png", "json": ".json"}
CONTACT_NAME = "contact.png"
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
    photos = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES)
    stems = {photo.stem for photo in photos}
    ours = [SUFFIX_OF[kind].removesuffix(".png") for kind in ("overlay", "labels")]
    return [photo for photo in photos if not any(
        photo.stem.endswith(end) and photo.stem.removesuffix(end) in stems for end in ours)]


def plan_outputs(photos: list[Path], out: Path, kinds: Iterable[str]) -> dict[Path, dict[str, Path]]:
    """Where each photo's results go: stems are numbered where two photos share one, and no input is overwritten."""
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
    for path in [*(path for files in outputs.values() for path in files.values()), out / CONTACT_NAME]:
        if os.path.realpath(path) in inputs:
            raise ZerosegError(f"{path}: is one of the photos and would be overwritten; choose another --out")
    return outputs


def save_atomically(path: Path, picture) -> None:
    """Write a PNG so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        picture.save(partial, format="PNG", compress_level=PNG_LEVEL)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
