"""Make a folder for `zeroseg eval` of LabelMeFacade's photos that the bundled model was not trained on.

LabelMeFacade (cvjena/labelmefacade) colours its masks. Doors and windows count as building, "various" is not counted.
"""

from pathlib import Path

import click
import numpy as np
from PIL import Image

CLASSES = ("building", "car", "sidewalk", "road", "sky", "tree")
COLOURS = {
    (128, 0, 0): "building",
    (128, 128, 0): "building",  # door
    (0, 0, 128): "building",  # window
    (128, 0, 128): "car",
    (128, 128, 128): "sidewalk",  # pavement
    (128, 64, 0): "road",
    (0, 128, 128): "sky",
    (0, 128, 0): "tree",  # vegetation
}


def class_mask(colours: np.ndarray) -> np.ndarray:
    """Ids of CLASSES (H, W) uint8 of a coloured mask (H, W, 3) uint8; 255 where no class is."""
    mask = np.full(colours.shape[:2], 255, np.uint8)
    for colour, name in COLOURS.items():
        mask[(colours == colour).all(-1)] = CLASSES.index(name)
    return mask


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("clone", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("trained", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="A new folder for images and masks.")
@click.option("--every", default=5, type=click.IntRange(1), help="Take every this many of the photos.")
@click.option("--short-side", default=480, type=click.IntRange(32), help="Shrink photos to this, in px.")
def main(clone: Path, trained: Path, out: Path, every: int, short_side: int):
    """Photos of CLONE, a checkout of cvjena/labelmefacade, whose names are not in the text file TRAINED.

    \b
    python bench/streets.py labelmefacade street-photos.txt -o streets
    zeroseg eval streets
    """
    known = {line.strip().removesuffix(".jpg") for line in trained.read_text(encoding="utf-8").splitlines()}
    names = sorted(name for path in (clone / "labels").glob("*.png") if (name := path.name[:-4]) not in known)[::every]
    if not names:
        raise click.ClickException(f"{clone}/labels: expected PNG masks of photos that are not in {trained}, got none")
    if out.exists():
        raise click.ClickException(f"{out} exists; give a new folder")
    (out / "images").mkdir(parents=True)
    (out / "masks").mkdir()
    for name in names:
        photo = Image.open(clone / "images" / f"{name}.jpg").convert("RGB")
        mask = Image.fromarray(class_mask(np.asarray(Image.open(clone / "labels" / f"{name}.png").convert("RGB"))))
        scale = min(1, short_side / min(photo.size))
        size = tuple(round(side * scale) for side in photo.size)
        photo.resize(size, Image.Resampling.BICUBIC).save(out / "images" / f"{name}.jpg", quality=95)
        mask.resize(size, Image.Resampling.NEAREST).save(out / "masks" / f"{name}.png")
    (out / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    click.echo(f"{len(names)} photos; now: zeroseg eval {out}")


if __name__ == "__main__":
    main()
