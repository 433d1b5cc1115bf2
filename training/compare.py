"""Compare the student with its teacher without training: all contenders in one run, with one threshold rule.

All contenders get the same photos and the same labels. Each has its own background threshold, chosen by the same rule
(zeroseg.training.choose_threshold) on the same photos without masks, never on the measured photos. The best threshold
on the measured masks is printed beside it and marked as such.

    student           the segments of a model, deployed as users run it
    conse             the teacher's dense map with plain ConSE: strength x name, no training
    recipe            the dense map of the student's recipe, before any cleaning per photo
    diffused          the same after the walk over similar patches: the student's target
    probed            diffused, with a teacher that has a probe for persons (training/person_probe.py)
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.training.recipes import RECIPES, ConseConfig, TeacherConfig

DIR = click.Path(file_okay=False, exists=True, path_type=Path)


class TeacherPredict:
    """The teacher's dense map as the `predict` of zeroseg.evaluation.protocol.

    names_ND  (N, D) float32 text vectors of the names asked for.
    stem      the student's frozen convolutional stem with the (mean, std) of its input, to diffuse over; or None.
    """

    def __init__(self, teacher, names_ND: np.ndarray, stem=None, normalise=None, diffusion=None):
        import torch

        directions = torch.from_numpy(names_ND) - teacher.centre
        self.directions_DN = torch.nn.functional.normalize(directions, dim=1).T
        self.teacher, self.stem, self.normalise, self.diffusion = teacher, stem, normalise, diffusion

    def __call__(self, photo: np.ndarray, size=None) -> dict[str, np.ndarray]:
        """photo (H, W, 3) uint8 RGB -> {"place_scores": (N, h, w) float32}."""
        import torch
        from PIL import Image

        from zeroseg.training.photos import WHOLE, crop_array
        from zeroseg.training.teacher import to_tensor

        image = Image.fromarray(photo)
        height, width = self.teacher.dense_size(image.size)
        pixels = to_tensor([crop_array(image, WHOLE, (height, width))])
        with torch.no_grad():
            places_BhwD = self.teacher.dense(pixels)
            if self.stem is not None:
                places_BhwD = self._diffused(places_BhwD, pixels)
            scores = places_BhwD[0] @ self.directions_DN
        return {"place_scores": scores.permute(2, 0, 1).contiguous().numpy()}

    def _diffused(self, places_BhwD, pixels):
        import torch.nn.functional as F

        from zeroseg.training.diffusion import diffuse_targets

        mean, std = self.normalise
        fine, coarse = self.stem((pixels - mean) / std)
        grid = fine.shape[2:]
        target = F.interpolate(places_BhwD.permute(0, 3, 1, 2), grid, mode="bilinear", align_corners=False)
        walked = diffuse_targets(target.flatten(2).transpose(1, 2), fine, coarse, self.diffusion)
        return walked.unflatten(1, grid)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("folder", type=DIR)
@click.option(
    "--unlabelled", type=DIR, required=True, metavar="DIR", help="Number of photos on which thresholds are chosen."
)
@click.option("--teacher-weights", type=DIR, required=True, metavar="DIR", help="Folder with NAME.safetensors.")
@click.option("--labels", "label_folder", type=DIR, required=True, metavar="DIR", help="Folder with the label files.")
@click.option("--model", metavar="FILE|NAME", help="The student.  [default: bundled]")
@click.option(
    "--subset", default="background,cat,cow,dog,horse,person,sheep", metavar="NAMES", help="Classes averaged."
)
@click.option("--photos", type=click.IntRange(2), default=400, metavar="N", help="Unlabelled photos used.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Measure the first N photos only.")
@click.option("--rule", default="otsu", metavar="RULE", help="otsu or minimum-error.")
@click.option(
    "--contenders",
    default="student,conse,recipe,diffused",
    metavar="NAMES",
    help="What to compare; also probed, with --probe.",
)
@click.option(
    "--probe",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.npz",
    help="Probe for persons, for the contender probed.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Another setting of the recipe, as for train.py, such as teacher.conse.worn_gain=0.",
)
def main(
    folder, unlabelled, teacher_weights, label_folder, model, subset, photos, limit, rule, contenders, probe, changes
):
    """Measure a student and its teacher's training-free dense maps on FOLDER (images/, masks/; VOC's classes).

    \b
    Example:
      python training/compare.py voc-dev --unlabelled photos --teacher-weights teacher --labels labels
    """
    from zeroseg.commands.command import user_errors

    with user_errors():
        rows = compare(
            folder,
            unlabelled,
            teacher_weights,
            label_folder,
            model,
            tuple(subset.split(",")),
            photos,
            limit,
            rule,
            tuple(contenders.split(",")),
            probe,
            changes,
        )
        click.echo(f"{'contender':<12}{'threshold':>10}{'mIoU':>8}{'all':>8}{'best threshold (on the masks)':>32}")
        for row in rows:
            click.echo(
                f"{row['contender']:<12}{row['threshold']:>10.3f}{row['miou']:>8.1f}{row['miou_all']:>8.1f}"
                f"{row['best_miou']:>20.1f} @ {row['best_threshold']:.3f}"
            )
        click.echo(json.dumps(rows))


def compare(
    folder,
    unlabelled,
    teacher_weights,
    label_folder,
    model,
    subset,
    photos,
    limit,
    rule,
    contenders,
    probe=None,
    changes=(),
) -> list:
    """One dict per contender: thresholds, mIoU of the subset and of all classes in percent, IoU per class."""
    from zeroseg.evaluation.evaluate import evaluate
    from zeroseg.evaluation.label_sets import label_set
    from zeroseg.evaluation.metrics import iou_per_class, mean_iou, naming_accuracy
    from zeroseg.evaluation.protocol import ProtocolConfig
    from zeroseg.evaluation.standard_sets import voc_dev
    from zeroseg.training.choose_threshold import check_rule, choose_threshold, pixel_scores
    from zeroseg.training.photos import find_photos

    recipe = RECIPES["dense"]
    for change in changes:
        recipe = recipe.changed(change)
    dataset = voc_dev(folder)
    names = label_set(dataset)
    found = find_photos(unlabelled, photos)
    paths = [found.root / name for name in found.names]
    rows = []
    for contender, predict in _contenders(contenders, model, teacher_weights, label_folder, names.names, recipe, probe):
        if contender == "student":
            check_rule(rule, predict.segmenter.sidecar)
        scores, _ = pixel_scores(predict, paths, len(names.names), progress=True)
        threshold = choose_threshold(scores, rule)
        sweep = [threshold * factor for factor in (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0)]
        report = evaluate(
            predict,
            dataset,
            ProtocolConfig(threshold=threshold),
            names,
            subset=subset,
            limit=limit,
            sweep=sweep,
            progress=True,
        )
        results = [(100 * mean_iou(matrix, report.subset), t) for t, matrix in report.sweep]
        own = 100 * mean_iou(report.confusion, report.subset)
        best = max([*results, (own, threshold)])
        iou = iou_per_class(report.confusion)
        rows.append(
            {
                "contender": contender,
                "rule": rule,
                "threshold": threshold,
                "miou": own,
                "miou_all": 100 * mean_iou(report.confusion),
                "best_threshold": best[1],
                "best_miou": best[0],
                "iou": {dataset.classes[c]: round(100 * float(iou[c]), 2) for c in report.subset},
                "naming": 100 * naming_accuracy(report.confusion),
                "photos": len(report.predict_ms),
                "oracle": {how: 100 * mean_iou(matrix, report.subset) for how, matrix in report.oracle.items()},
            }
        )
    return rows


def _contenders(wanted, model, teacher_weights, label_folder, names, recipe, probe):
    """(name, predict) one after the other, so that only one network is in memory."""
    from zeroseg.errors import ZerosegError
    from zeroseg.evaluation.network import SegmenterPredict
    from zeroseg.segment.segmenter import Segmenter

    known = {"student", "conse", "recipe", "diffused", "probed"}
    if set(wanted) - known:
        raise ZerosegError(f"contenders: expected some of {', '.join(sorted(known))}, got {', '.join(wanted)}")
    if "probed" in wanted and probe is None:
        raise ZerosegError("contenders: probed needs --probe, a file that training/person_probe.py wrote")
    segmenter = Segmenter.load(model).set_labels(list(names))
    if "student" in wanted:
        yield "student", SegmenterPredict(segmenter)
    vectors = np.asarray(segmenter.pack.vectors, np.float32)
    if "conse" in wanted:
        plain = TeacherConfig(recipe.teacher.spec, str(teacher_weights), conse=ConseConfig())
        yield "conse", TeacherPredict(_teacher(plain, label_folder), vectors)
    if "recipe" in wanted:
        yield (
            "recipe",
            TeacherPredict(_teacher(replace(recipe.teacher, weights=str(teacher_weights)), label_folder), vectors),
        )
    for contender, its_probe in (("diffused", None), ("probed", probe)):
        if contender in wanted:
            teacher = _teacher(
                replace(recipe.teacher, weights=str(teacher_weights), probe=its_probe and str(its_probe)), label_folder
            )
            yield contender, TeacherPredict(teacher, vectors, *_stem(recipe, teacher_weights), recipe.diffusion)


def _teacher(config: TeacherConfig, label_folder: Path):
    from zeroseg.training.build_teacher import build_teacher
    from zeroseg.training.conse import load_label_space

    space = load_label_space(
        label_folder / "names.txt",
        label_folder / "clip_vitb32_text.npy",
        label_folder / "imagenet_names.jsonl",
        RECIPES["dense"].model_config().embedding_space,
    )
    return build_teacher(config, space)


def _stem(recipe, teacher_weights: Path):
    """The frozen stem that the recipe starts from, and the (mean, std) of its input."""
    import torch

    from zeroseg.model.stem import ConvStem
    from zeroseg.training.forward import FrozenForward

    config = recipe.model_config()
    stem = ConvStem(config)
    stem.load_pretrained(config.stem, teacher_weights / f"{config.stem}.safetensors")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (recipe.mean, recipe.std))
    return FrozenForward(stem, config.size_multiple), (mean, std)


if __name__ == "__main__":
    main()
