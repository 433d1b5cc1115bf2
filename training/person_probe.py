"""Locate persons with a classifier that has no class for them: a linear probe on its class logits.

OpenCV's frontal-face cascade (a classical detector) finds some faces in unlabelled photos. Patches on a face, and on
the shoulders and chest below it, are the positive examples. Patches of photos without a face and without clothes are
the negative examples. A logistic regression on their logits gives the probability that a patch shows a person: p =
sigmoid(w . logits + b).

    pip install "opencv-python-headless<5"
    python training/person_probe.py --photos ~/photos --labels ~/labels --teacher-weights ~/teacher -o person.npz
    python training/train.py --set teacher.probe=person.npz ...
"""

from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.training.conse import Probe
from zeroseg.training.recipes import RECIPES, WORN_CLASSES

DETECT_SIDE = 360  # px, short side of the photo faces are looked for in; the smallest face is 32 px of it
CLOTHED = 0.15  # a photo with a place of more clothes than this is no example of "no person"
PER_PHOTO = 12  # such examples taken of each photo
COMPONENTS = 160  # principal components of the logits the regression sees
RARER = 2.0  # log-odds: how much rarer persons are in photos than in the balanced batches of the fit


def face_places(boxes: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Places (h, w) bool on a face or the shoulders and chest below it. boxes (n, 4) x, y, width, height in [0, 1]."""
    y = (np.arange(grid[0])[:, None] + 0.5) / grid[0]
    x = (np.arange(grid[1])[None] + 0.5) / grid[1]
    inside = np.zeros(grid, bool)
    for left, top, width, height in boxes:
        away = np.abs(x - left - width / 2) / width
        down = (y - top) / height
        inside |= (away < 0.55) & (down > -0.15) & (down < 1.1)
        inside |= (away < 0.95) & (down >= 1.1) & (down < 3.6)
    return inside


def fit_probe(photos: Iterable[tuple[np.ndarray, torch.Tensor]], seed: int = 0) -> Probe:
    """Fit on photos: pairs of face boxes (n, 4), possibly none, and class logits (h, w, C) float32.

    Raises ZerosegError where there are too few examples of either kind.
    """
    # its own random numbers: what makes the examples may draw some in between
    drawn, persons, weights, others = torch.Generator().manual_seed(seed), [], [], []
    for boxes, logits in photos:
        places = logits.flatten(0, 1)
        if len(boxes):
            mine = places[torch.from_numpy(face_places(boxes, tuple(logits.shape[:2]))).flatten()]
            persons.append(mine)
            weights.append(torch.full((len(mine),), max(4, len(mine)) ** -0.5))  # a close-up is one person too
        elif _worn(places).max() < CLOTHED:
            others.append(places[torch.randperm(len(places), generator=drawn)[:PER_PHOTO]])
    counts = [sum(map(len, rows)) for rows in (persons, others)]
    if min(counts) < 50:
        raise ZerosegError(
            f"person probe: expected 50 patches each with and without persons, got {counts[0]} and "
            f"{counts[1]}; give photos of people and of other things"
        )
    torch.manual_seed(seed)
    persons, weights, others = torch.cat(persons), torch.cat(weights), torch.cat(others)
    sample = torch.cat([others[torch.randperm(len(others))[:12000]], persons[torch.randperm(len(persons))[:3000]]])
    mean = sample.mean(0)
    rank = min(COMPONENTS, *sample.shape)
    _, singular, axes = torch.pca_lowrank(sample - mean, q=rank, center=False)
    axes = axes / (singular / len(sample) ** 0.5).clamp_min(1e-6)
    line = _logistic((persons - mean) @ axes, weights / weights.mean(), (others - mean) @ axes)
    weight_C = axes @ line.weight[0]
    return Probe(weight_C, line.bias[0] - mean @ weight_C - RARER)


def _logistic(persons: torch.Tensor, weights: torch.Tensor, others: torch.Tensor) -> torch.nn.Linear:
    """Logistic regression by 400 steps of AdamW on batches of 1,024 persons and 2,048 others."""
    line = torch.nn.Linear(persons.shape[1], 1)
    optimizer = torch.optim.AdamW(line.parameters(), lr=3e-3, weight_decay=0.02)
    for _ in range(400):
        a, b = torch.randint(len(persons), (1024,)), torch.randint(len(others), (2048,))
        loss = (F.softplus(-line(persons[a])[:, 0]) * weights[a]).mean() + F.softplus(line(others[b])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return line.requires_grad_(False)


def find_faces(cascade, photo) -> np.ndarray:
    """Boxes (n, 4) x, y, width, height in fractions of a PIL photo."""
    grey = photo.convert("L")
    scale = DETECT_SIDE / min(grey.size)
    grey = np.asarray(grey.resize([max(1, round(side * scale)) for side in grey.size], 3))
    boxes = cascade.detectMultiScale(grey, 1.15, 5, minSize=(32, 32))
    return np.asarray(boxes, float).reshape(-1, 4) / np.array([grey.shape[1], grey.shape[0]] * 2)


def load_cascade():
    """OpenCV's frontalface_alt2 cascade; UnavailableError where this OpenCV has none (5 has dropped them)."""
    try:
        import cv2

        cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")
    except (ImportError, AttributeError) as error:
        raise UnavailableError("finding faces needs OpenCV 4: pip install 'opencv-python-headless<5'") from error
    return cascade


def _worn(places: torch.Tensor) -> torch.Tensor:
    """Probability of clothes at each place, the photo's mean logits added, as in conse.read_logits."""
    worn = [c for c in WORN_CLASSES if c < places.shape[1]]
    return (places + places.mean(0)).softmax(-1)[:, worn].sum(-1)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--photos", required=True, metavar="DIR", help="Unlabelled photos, searched recursively.")
@click.option("--labels", required=True, metavar="DIR", help="names.txt, clip_vitb32_text.npy, imagenet_names.jsonl.")
@click.option("--teacher-weights", metavar="DIR", help="NAME.safetensors of the teacher.  [default: the hub]")
@click.option("--recipe", default="dense", show_default=True, help="Recipe whose teacher is probed.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use this many photos.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.npz")
def main(photos, labels, teacher_weights, recipe, limit, out):
    """Fit a probe that finds persons in a classifier's logits, from faces in unlabelled photos."""
    from dataclasses import replace

    from zeroseg.training.build_teacher import build_teacher
    from zeroseg.training.conse import load_label_space
    from zeroseg.training.photos import WHOLE, UnreadablePhoto, crop_array, find_photos
    from zeroseg.training.progress import progress_bar
    from zeroseg.training.teacher import to_tensor

    try:
        if recipe not in RECIPES:
            raise ZerosegError(f"recipe: expected one of {', '.join(RECIPES)}, got {recipe!r}")
        cascade, found = load_cascade(), find_photos(photos, limit)
        folder = Path(labels)
        space = load_label_space(
            folder / "names.txt",
            folder / "clip_vitb32_text.npy",
            folder / "imagenet_names.jsonl",
            "openai/clip-vit-base-patch32",
        )
        teacher = build_teacher(replace(RECIPES[recipe].teacher, weights=teacher_weights, probe=None), space)
        if not hasattr(teacher, "logits"):
            raise ZerosegError(f"teacher {teacher.spec} has no class logits to probe; use a timm: classifier")

        faces = []  # of each photo that could be read, how many

        def examples():
            with progress_bar("faces and logits", "photo", len(found), 0) as bar:
                for row in range(len(found)):
                    bar.update()
                    try:
                        photo = found.read(row)
                    except UnreadablePhoto:
                        continue
                    height, width = teacher.dense_size(photo.size)
                    pixels = to_tensor([crop_array(photo, WHOLE, (height, width))])
                    boxes = find_faces(cascade, photo)
                    faces.append(len(boxes))
                    with torch.no_grad():
                        yield boxes, teacher.logits(pixels)[0]

        fit_probe(examples()).save(out)
        click.echo(f"wrote {out}, fitted on {sum(map(bool, faces))} photos with faces of {len(faces)}")
    except ZerosegError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
