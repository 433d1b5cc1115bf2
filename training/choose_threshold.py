"""Choose the background threshold from photos without masks.

A model scores many photos against a list of labels, and every pixel has a best score. Pixels that show something in the
list score high, the others low. So the scores are a mixture of two modes, and the threshold lies between them. No masks
are used, so the threshold is not chosen on an evaluation set. There are two rules for the split:

otsu           the split with the largest between-class variance, w0 w1 (m0 - m1)^2 (Otsu 1979). It assumes modes of
               similar size and spread; with little foreground it drifts into the larger mode.
minimum-error  fits two Gaussians, each with its own weight and spread, and takes the split with the fewest
               misclassified pixels: the smallest 1 + 2 (w0 log s0 + w1 log s1) - 2 (w0 log w0 + w1 log w1)
               (Kittler and Illingworth 1986).

Both search all splits of the sorted scores, not of a histogram. The outermost thousandth at either end is clipped
first, so that a few outliers do not form a mode.
"""

import json
import math
import sys
from pathlib import Path

import click
import numpy as np

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

RULES = ("otsu", "minimum-error")
SMALLEST_MODE = 0.01  # of all scores: smaller modes are outliers, and their spread means nothing
WILD = 0.001  # of all scores, at either end
PIXEL_STEP = 4  # every fourth pixel of every fourth row: neighbours score alike


def choose_threshold(scores: np.ndarray, rule: str = "otsu") -> float:
    """The threshold t (scores >= t are foreground) that parts scores, any shape, float, into two heaps by one of RULES.

    Lies halfway between the neighbouring scores of the split. Raises ValueError for fewer than two different scores,
    values that are not finite, or an unknown rule.
    """
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {rule!r}")
    x = np.sort(np.asarray(scores, np.float64).ravel())
    if not np.isfinite(x).all() or x.size < 2 or x[0] == x[-1]:
        raise ValueError(f"scores: expected at least two different finite values, got {x.size} values")
    wild = int(WILD * x.size)
    x = np.clip(x, x[wild], x[-1 - wild])
    sizes = np.arange(1, x.size)  # of the lower mode
    allowed = x[1:] > x[:-1]  # a split between equal scores is none
    roomy = allowed & (np.minimum(sizes, x.size - sizes) >= SMALLEST_MODE * x.size)
    allowed = roomy if roomy.any() else allowed
    centred = x - x.mean()
    cost = (_otsu if rule == "otsu" else _minimum_error)(centred, sizes)
    split = np.flatnonzero(allowed)[np.argmin(cost[allowed])]
    return float((x[split] + x[split + 1]) / 2)


def _modes(x: np.ndarray, sizes: np.ndarray):
    """Weights, means and variances of both modes at every split of sorted x: six arrays (n - 1)."""
    total, square = np.cumsum(x), np.cumsum(x * x)
    out = []
    for n, s, q in (
        (sizes, total[:-1], square[:-1]),
        (x.size - sizes, total[-1] - total[:-1], square[-1] - square[:-1]),
    ):
        mean = s / n
        out.append((n / x.size, mean, np.maximum(q / n - mean * mean, 0)))
    return out


def _otsu(x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    (w0, m0, _), (w1, m1, _) = _modes(x, sizes)
    return -w0 * w1 * (m0 - m1) ** 2


def _minimum_error(x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    (w0, _, v0), (w1, _, v1) = _modes(x, sizes)
    floor = (1e-3 * (x[-1] - x[0])) ** 2  # a mode of equal scores would have log 0
    spread = w0 * np.log(np.maximum(v0, floor)) + w1 * np.log(np.maximum(v1, floor))
    return 1 + spread - 2 * (w0 * np.log(w0) + w1 * np.log(w1))


def check_rule(rule: str, sidecar) -> None:
    """Raise ZerosegError where a model's scores are not what the rule is for (sidecar: its description)."""
    from zeroseg.errors import ZerosegError

    share = sidecar.card.get("score_share")
    if rule == "minimum-error" and share:
        raise ZerosegError(
            f"model {sidecar.name}: its scores fall off below {share} of the best one's, so the lower "
            "mode is not Gaussian; choose the threshold before training/set_score_share.py, or with "
            "--rule otsu"
        )


def pixel_scores(predict, photos: list[Path], names: int, progress: bool = False) -> tuple[np.ndarray, int]:
    """The best scores of the deployed decision at a grid of pixels of every photo, and how many photos were left out.

    predict: see zeroseg.evaluation.protocol; names: how many it was told. Returns (n) float32 and a count. A photo that
    cannot be read is named and left out; ZerosegError if none can.
    """
    from tqdm import tqdm

    from zeroseg.errors import ZerosegError
    from zeroseg.evaluation.protocol import read_whole
    from zeroseg.photos.decode import load_image

    scores, left_out = [], 0
    for path in tqdm(photos, desc="scoring", unit="photo", disable=not progress):
        try:
            photo = load_image(path)
        except ZerosegError as error:
            tqdm.write(f"left out: {error}", file=sys.stderr)
            left_out += 1
            continue
        reading = read_whole(predict, photo, names)
        scores.append(reading.score_map()[::PIXEL_STEP, ::PIXEL_STEP].ravel())
    if not scores:
        raise ZerosegError(f"photos: none of {len(photos)} can be read")
    return np.concatenate(scores).astype(np.float32), left_out


def histogram_text(scores: np.ndarray, threshold: float, bins: int = 24, width: int = 48) -> str:
    """A histogram to look at: one line a bin, the threshold marked."""
    counts, edges = np.histogram(scores, bins=bins)
    lines = []
    for count, low, high in zip(counts, edges[:-1], edges[1:]):
        mark = "  <- threshold" if low <= threshold < high else ""
        lines.append(f"{low:9.4f} {'#' * math.ceil(width * count / counts.max()):<{width}}{mark}".rstrip())
    return "\n".join(lines)


def write_threshold(path: Path, threshold: float) -> Path:
    """Store the threshold in a model's description, .json beside an .onnx or inside a .pt; return the changed file."""
    from zeroseg.errors import ZerosegError

    if path.suffix == ".pt":
        from zeroseg.model.torch_file import load_torch, save_torch

        document = load_torch(path, "zeroseg checkpoint")
        document["sidecar"]["threshold"] = threshold
        save_torch(document, path)
    elif path.suffix == ".onnx":
        from zeroseg.files import write_text

        path = path.with_suffix(".json")
        document = json.loads(path.read_text(encoding="utf-8")) | {"threshold": threshold}
        write_text(path, json.dumps(document, indent=1) + "\n")
    else:
        raise ZerosegError(f"{path}: expected an .onnx or .pt model")
    return path


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("photos", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("--model", metavar="FILE|NAME", help="Model file (.onnx, .pt) or a bundled name.  [default: bundled]")
@click.option("--labels", metavar="WORDS", help="List with commas, or @FILE.  [default: COCO's 80 names]")
@click.option(
    "--rule",
    type=click.Choice(RULES),
    default=RULES[0],
    show_default=True,
    help="Rule that separates the two modes of the scores.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    metavar="N",
    help="At most this many photos, evenly spaced over the folder.",
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all]")
@click.option("--write", is_flag=True, help="Store the threshold in the model's sidecar.")
def main(photos, model, labels, rule, limit, threads, write):
    """Choose a model's background threshold on a folder of photos, without masks.

    Prints the histogram of scores, the threshold of every rule, and one JSON line.

    \b
    Example:
      python training/choose_threshold.py ~/photos --model runs/first/model.pt --limit 500 --write
    """
    from zeroseg.artifact import find_model
    from zeroseg.commands.command import user_errors
    from zeroseg.commands.infer_run import parse_labels
    from zeroseg.evaluation.class_names import COCO_THINGS
    from zeroseg.evaluation.network import SegmenterPredict
    from zeroseg.segment.segmenter import Segmenter
    from zeroseg.training.photos import find_photos

    with user_errors():
        names = parse_labels(labels) if labels else COCO_THINGS
        found = find_photos(photos, limit)
        segmenter = Segmenter.load(model, threads=threads).set_labels(names)
        check_rule(rule, segmenter.sidecar)
        paths = [found.root / name for name in found.names]
        scores, left_out = pixel_scores(SegmenterPredict(segmenter), paths, len(segmenter.pack.names), progress=True)
        by_rule = {name: choose_threshold(scores, name) for name in RULES}
        click.echo(histogram_text(scores, by_rule[rule]))
        for name, value in by_rule.items():
            click.echo(f"{name:<14}{value:9.4f}  foreground {(scores >= value).mean():6.1%}")
        if write:
            click.echo(f"wrote {write_threshold(find_model(model), by_rule[rule])}")
    document = {"threshold": by_rule[rule], "rule": rule, "photos": len(paths) - left_out, "left_out": left_out}
    document |= {"labels": len(segmenter.pack.names), "by_rule": by_rule, "model": segmenter.sidecar.name}
    click.echo(json.dumps(document))


if __name__ == "__main__":
    main()
