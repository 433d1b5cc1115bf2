"""The gate: an exported file is kept only if it gives PyTorch's masks on real photos.

Label maps must agree on 99.5 % of the pixels. If masks are given, mIoU may change by at most 0.3 points.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.export.parity import Case, Parity, compare, label_map
from zeroseg.photos.decode import load_image
from zeroseg.photos.listing import photos_below
from zeroseg.runtime.base import OUTPUTS, Runner
from zeroseg.sidecar import Scoring, Sidecar

PHOTOS = Path(__file__).resolve().parent / "photos"  # redistributable; see the README there
MOST_PHOTOS = 16  # of a folder, spread evenly: each takes two passes of both networks


class CachedRunner(Runner):
    """A runner that caches its outputs per image: the reference for every candidate."""

    def __init__(self, runner: Runner):
        self.runner, self.backend = runner, runner.backend
        self._seen = []  # (image, outputs)

    def input(self):
        return self.runner.input()

    def _run(self, image):
        for known, outputs in self._seen:
            if known is image:
                return outputs
        self._seen.append((image, self.runner.run(image)))
        return self._seen[-1][1]


class Gate:
    """Holds the reference's outputs; check() compares any number of candidates.

    cases: inputs to compare on. masks: a function that gives mIoU in points for a runner, or None without masks.
    """

    def __init__(
        self, reference: Runner, cases: list[Case], sidecar: Sidecar, masks: Callable[[Runner], float] | None = None
    ):
        self.reference = reference if isinstance(reference, CachedRunner) else CachedRunner(reference)
        self.cases, self.sidecar, self.masks = cases, sidecar, masks
        self._before: float | None = None

    def check(self, candidate: Runner, on_case: Callable[[], object] = lambda: None) -> Parity:
        """The whole comparison; the result's `ok` says if it passed. mIoU is measured only if the pixels agree.

        on_case is called after each of the cases.
        """
        parity = compare(self.reference, candidate, self.cases, self.sidecar.scoring, on_case)
        if self.masks is None or not parity.ok:
            return parity
        if self._before is None:
            self._before = self.masks(self.reference.runner)
        return replace(parity, miou=(self._before, self.masks(candidate)))

    def agrees(self, candidate: Runner) -> bool:
        """Whether check() would pass but for mIoU, which is not measured."""
        return compare(self.reference, candidate, self.cases, self.sidecar.scoring).ok

    def quick(self, candidate: Runner, count: int = 4) -> tuple[float, float]:
        """(share of pixels that differ, 1 - the worst output's cosine) on a few cases of all, for searches."""
        few = np.unique(np.linspace(0, len(self.cases) - 1, count).astype(int))
        parity = compare(self.reference, candidate, [self.cases[i] for i in few], self.sidecar.scoring)
        cosine = min(parity.cosine.values())
        return 1 - parity.agreement, 1 - cosine if np.isfinite(cosine) else np.inf


def photos_of(folder: Path | None) -> list[np.ndarray]:
    """Up to MOST_PHOTOS photos of a folder, or the ones that come with zeroseg; (H, W, 3) uint8 each."""
    root = PHOTOS if folder is None else Path(folder)
    files = sorted(photo.path for photo in photos_below(root)) if root.is_dir() else []
    if not files and folder is not None:
        raise ZerosegError(f"{folder}: expected a folder with photos, found none")
    chosen = np.unique(np.linspace(0, len(files) - 1, min(len(files), MOST_PHOTOS)).astype(int)) if files else []
    return [load_image(files[i]) for i in chosen]


def mask_scorer(folder: Path, kind: str, sidecar: Sidecar, progress: bool = False) -> Callable[[Runner], float]:
    """runner -> mIoU in points over a folder with masks of layout `kind`, as `zeroseg eval FOLDER --dataset kind`.

    progress: a bar on stderr for each.
    """
    from zeroseg.evaluation.evaluate import class_ids, evaluate
    from zeroseg.evaluation.folders import plain_folder
    from zeroseg.evaluation.label_sets import label_set
    from zeroseg.evaluation.metrics import mean_iou
    from zeroseg.evaluation.network import SegmenterPredict
    from zeroseg.evaluation.protocol import ProtocolConfig
    from zeroseg.evaluation.run import DEFAULT_SUBSET, SUBSETS
    from zeroseg.evaluation.standard_sets import READERS
    from zeroseg.segment.segmenter import Segmenter

    dataset = plain_folder(folder) if kind == "folder" else READERS[kind](folder)
    labels = label_set(dataset)
    subset = class_ids(dataset, SUBSETS.get(DEFAULT_SUBSET.get(kind, ""), ())) or None
    config = ProtocolConfig(threshold=sidecar.threshold, multiple_px=sidecar.input.multiple)

    def score(runner: Runner) -> float:
        segmenter = Segmenter(runner, sidecar).set_labels(list(labels.names))
        report = evaluate(SegmenterPredict(segmenter), dataset, config, labels, progress=progress)
        return 100 * (mean_iou(report.confusion, subset) if subset else report.mean_iou())

    return score


def check_masks_file(
    path: Path, network: Path, cases: list[Case], scoring: Scoring, on_case: Callable[[], object] = lambda: None
) -> float:
    """Share of pixels on which the self-contained file's label map is the one that the network's maps and embeddings
    lead to on the host: the lowest of that with the thresholds of the cases, and of that with none.
    """
    from zeroseg.export.masks_graph import LABEL_MAP
    from zeroseg.runtime.ort_runner import open_session

    session, alone = open_session(path, 1), open_session(network, 1)
    shares = []
    for case in cases:
        outputs = dict(zip(OUTPUTS, alone.run(list(OUTPUTS), {"image": case.image}), strict=True))
        shares.append([])
        for floor in (-np.inf, case.near, case.threshold):
            feed = {"image": case.image, "label_embeddings": case.vectors, "size": np.array(case.size)}
            [got] = session.run([LABEL_MAP], feed | {"threshold": np.array(floor, np.float32)})
            expected = [label_map(outputs, b, case, floor, scoring) for b in range(len(got))]
            shares[-1].append((got == np.stack(expected)).mean())
        on_case()
    return float(np.mean(shares, axis=0).min())
