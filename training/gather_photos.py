"""Gather small copies of training photos from public git repositories and folders into one folder.

Photos are read from a clone without a work tree (git cat-file), so only the small copies are written. A seed determines
which photos are taken. Existing copies are kept, so an interrupted command can be resumed.
"""

import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

SUFFIXES = (".jpg", ".jpeg", ".png")
SHORT_SIDE = 256  # px of the copies: teachers were measured to be as good on small photos


@dataclass(frozen=True)
class Source:
    """One collection: where it is, how many photos are taken at most, and what its owner says of licences.

    name        folder of the copies.
    repository  owner/name on GitHub, "" for a folder of photos that the user has.
    folder      where the photos are in it.
    licence     as stated there.
    """

    name: str
    repository: str
    folder: str
    count: int
    what: str
    licence: str


SOURCES = (
    Source("voc", "", "voc", 1500, "VOC 2012 train_aug, without masks", "Flickr's terms"),
    Source("voc2007", "", "voc2007", 900, "VOC 2007", "Flickr's terms"),
    Source("animals", "", "animals", 300, "animals", "none"),
    Source("people", "", "people", 200, "people (clothing-co-parsing)", "none"),
    Source("imagenet", "", "imagenet", 200, "one photo per ImageNet class", "none"),
    Source("caltech101", "", "caltech101", 100, "Caltech-101", "CC BY 4.0"),
    Source(
        "scenes",
        "NUS-VIP/predicting-human-gaze-beyond-pixels",
        "data/stimuli",
        700,
        "cluttered everyday scenes",
        "MIT",
    ),
    Source("houses", "emanhamed/Houses-dataset", "Houses Dataset", 450, "rooms and fronts of houses", "none"),
    Source("doors", "MiguelARD/DoorDetect-Dataset", "images", 500, "rooms and shops (Open Images)", "CC BY 2.0"),
    Source("food", "feedmejefferson/images", "images", 250, "food on tables", "Pexels and others, per photo"),
    Source("weather", "shubhankarm01/Weather-image-classification", "train", 250, "sky, sea, snow, rain", "none"),
    Source("streets", "cvjena/labelmefacade", "images", 450, "streets (LabelMe)", "non-commercial, research"),
    Source("groceries", "marcusklasson/GroceryStoreDataset", "dataset", 250, "shop shelves, packages", "MIT"),
    Source("clothes", "alexeygrigorev/clothing-dataset-small", "train", 100, "single garments", "CC0"),
)


def choose_names(names: list[str], count: int, seed: int) -> list[str]:
    """At most count of the names, drawn by the seed; sorted."""
    names = sorted(names)
    if len(names) <= count:
        return names
    chosen = np.random.default_rng(seed).choice(len(names), count, replace=False)
    return [names[i] for i in sorted(chosen)]


def list_git(repository: Path, folder: str) -> list[str]:
    """Paths of the images below a folder of a repository's HEAD."""
    done = subprocess.run(
        ["git", "-C", str(repository), "ls-tree", "-r", "-z", "--name-only", "HEAD", "--", folder],
        capture_output=True,
        check=True,
    )
    names = done.stdout.decode().split("\0")
    return [name for name in names if name.lower().endswith(SUFFIXES)]


def shrink(data: bytes, short_side: int) -> bytes:
    """An image file -> JPEG bytes (RGB, EXIF orientation applied) with the short side at most short_side px.

    Raises OSError for what is no image.
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data)) as file:
        file.draft("RGB", (2 * short_side, 2 * short_side))
        image = ImageOps.exif_transpose(file).convert("RGB")
    scale = short_side / min(image.size)
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in image.size)
        image = image.resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=92)
    return out.getvalue()


def gather(source: Source, root: Path, out: Path, only: set[str] | None, short_side: int, seed: int) -> tuple[int, int]:
    """Copy one source's photos to out/NAME; the numbers of copies and of files that are no image.

    root  a git repository (bare or not), or a folder whose subfolder source.folder has the photos.
    only  file stems that may be taken; None: all.
    """
    git = bool(source.repository)
    if git:
        root = root / ".git" if (root / ".git").exists() else root
        names = list_git(root, source.folder)
    else:
        names = [p.name for p in (root / source.folder).iterdir() if p.name.lower().endswith(SUFFIXES)]
    if only is not None:
        names = [name for name in names if Path(name).stem in only]
    folder = out / source.name
    folder.mkdir(parents=True, exist_ok=True)
    made = bad = 0
    for name in choose_names(names, source.count, seed):
        stem = name.removeprefix(source.folder).strip("/").rsplit(".", 1)[0].replace("/", "__").replace(" ", "_")
        target = folder / f"{stem}.jpg"
        if target.exists():
            made += 1
            continue
        if git:
            done = subprocess.run(["git", "-C", str(root), "cat-file", "blob", f"HEAD:{name}"], capture_output=True)
            data = done.stdout
        else:
            data = (root / source.folder / name).read_bytes()
        try:
            content = shrink(data, short_side)
        except (OSError, ValueError):
            bad += 1
            continue
        partial = target.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(target)
        made += 1
    return made, bad


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("clones", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to fill.")
@click.option(
    "--old", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Folder with your own photo sets."
)
@click.option(
    "--streets",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the street photos to take, one per line.",
)
@click.option(
    "--short-side", type=click.IntRange(64), default=SHORT_SIDE, metavar="PX", help="Short side of the copies."
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed that decides which photos are taken.")
def main(clones, out, old, streets, short_side, seed):
    """Make small copies of training photos from clones of public repositories.

    CLONES holds one clone per repository, named OWNER+NAME (a folder "repo" inside it works too).

    \b
    Example:
      git clone --bare https://github.com/emanhamed/Houses-dataset clones/emanhamed+Houses-dataset
      python training/gather_photos.py clones --old photos -o everyday
    """
    for source in SOURCES:
        only = None
        if source.repository:
            root = clones / source.repository.replace("/", "+")
            root = root / "repo" if (root / "repo").is_dir() else root
        else:
            root = old
        if root is None or not (root if source.repository else root / source.folder).is_dir():
            click.echo(f"{source.name}: not found, left out")
            continue
        if source.name == "streets":
            if streets is None:
                click.echo("streets: left out, give --streets FILE with the photos for training")
                continue
            only = set(streets.read_text(encoding="utf-8").split())
        made, bad = gather(source, root, out, only, short_side, seed)
        click.echo(f"{source.name}: {made} photos" + (f", {bad} files are no image" if bad else ""))


if __name__ == "__main__":
    main()
