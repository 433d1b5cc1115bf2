"""The work of `zeroseg eval` after its options are parsed."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import click

from zeroseg import __version__
from zeroseg.errors import ZerosegError
from zeroseg.evaluation.class_names import COCO_THINGS, VOC_ANIMALS
from zeroseg.evaluation.evaluate import evaluate, sweep_thresholds
from zeroseg.evaluation.folders import MaskFolder, plain_folder
from zeroseg.evaluation.label_sets import KINDS, LabelSet, label_set, label_set_from_file
from zeroseg.evaluation.network import SegmenterPredict
from zeroseg.evaluation.protocol import ProtocolConfig
from zeroseg.evaluation.published_names import published_labels
from zeroseg.evaluation.report import Report
from zeroseg.evaluation.scene_sets import READERS as SCENE_READERS
from zeroseg.evaluation.sheet import Sheet, spread
from zeroseg.evaluation.standard_sets import READERS as STANDARD_READERS
from zeroseg.files import make_folder
from zeroseg.segment.segmenter import Segmenter

# The ZeroSeg paper's thresholds for GroupViT's protocol, whose scores are products of two probabilities.
PAPER_THRESHOLDS = {"voc": 0.95, "voc-dev": 0.95, "folder": 0.95, "context": 0.05, "coco-object": 0.35}
# SCLIP's prob_thd for the three sets with a background (wangf3014/SCLIP, configs).
PUBLISHED_PROBABILITIES = {"voc": 0.1, "context": 0.1, "coco-object": 0.1}
READERS = STANDARD_READERS | SCENE_READERS
SUBSETS = {"animals": VOC_ANIMALS, "things": COCO_THINGS}
DEFAULT_SUBSET = {"voc-dev": "animals"}


@dataclass(frozen=True)
class EvalOptions:
    """The command's options, named as there."""

    folder: Path
    dataset: str
    class_file: Path | None
    list_file: Path | None
    model: str | None
    backend: str
    threads: int | None
    labels: str | None
    names: Path | None
    text: str
    pack: Path | None
    config: ProtocolConfig
    threshold: float | None
    sweep: bool
    subset: str | None
    limit: int | None
    pictures: int
    out: Path | None
    dry_run: bool


def run_eval(options: EvalOptions) -> None:
    """Read and evaluate, print the tables and one JSON line, write the requested files."""
    dataset = read_dataset(options)
    if dataset.without_mask:
        left = len(dataset.without_mask)
        click.echo(
            f"Note: {left} photos without a mask are left out, for example {dataset.without_mask[0].name}", err=True
        )
    subset = subset_names(options, dataset)
    segmenter = Segmenter.load(options.model, options.backend, options.threads)
    config, source = with_threshold(options, segmenter, dataset)
    config = replace(config, multiple_px=segmenter.sidecar.input.multiple)
    about = {
        "model": segmenter.sidecar.name,
        "backend": segmenter.runner.backend,
        "threads": options.threads,
        "text": str(options.pack or options.text),
        "threshold_from": source,
        "zeroseg": __version__,
        "photos_without_mask": len(dataset.without_mask),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    if options.dry_run:
        plan = {"dataset": dataset.name, "photos": min(len(dataset), options.limit or len(dataset)), **about}
        plan |= {"labels": options.labels or "official", "config": config.in_use(), "subset": list(subset)}
        click.echo(json.dumps(plan))
        return
    if options.out is not None:
        make_folder(options.out)
    reports, sheet = {}, Sheet(dataset, set())
    chosen = options.labels or "official"
    kinds = ("file",) if options.names else KINDS if chosen == "all" else (chosen,)
    for kind in kinds:
        labels = labels_of(options, dataset, kind)
        set_names(segmenter, labels, options)
        words_of_its_own = dataset.background is not None and dataset.background not in labels.class_ids
        predict = SegmenterPredict(segmenter, background=words_of_its_own)
        sweep = sweep_thresholds(predict, dataset, len(labels.names), config) if options.sweep else ()
        sheet = Sheet(dataset, spread(min(len(dataset), options.limit or len(dataset)), options.pictures))
        report = evaluate(
            predict, dataset, config, labels, subset=subset, limit=options.limit, sweep=sweep, on_photo=sheet.add,
            progress=True,
        )  # fmt: skip
        report.about = about
        reports[kind] = report
        click.echo(f"model {about['model']} on {about['backend']}; threshold from {source}")
        click.echo(report.table() + "\n")
        write_results(options, report, sheet, kind)
    summaries = {kind: report.summary() for kind, report in reports.items()}
    click.echo(json.dumps(summaries if len(summaries) > 1 else summaries[kinds[0]]))


def read_dataset(options: EvalOptions) -> MaskFolder:
    """Read the folder in the layout of its kind."""
    if options.dataset == "folder":
        return plain_folder(options.folder, options.class_file, options.list_file)
    if options.class_file or options.list_file:
        raise ZerosegError(f"--classes, --list: only with --dataset folder; {options.dataset} has its own")
    return READERS[options.dataset](options.folder)


def labels_of(options: EvalOptions, dataset: MaskFolder, kind: str) -> LabelSet:
    """The words of --names, or of a kind of --labels."""
    if options.names:
        return label_set_from_file(dataset, options.names)
    return published_labels(options.dataset) if kind == "published" else label_set(dataset, kind)


def subset_names(options: EvalOptions, dataset: MaskFolder) -> tuple[str, ...]:
    """Class names of --subset: those of a known subset that the dataset has, a comma list, or none."""
    text = options.subset or DEFAULT_SUBSET.get(options.dataset, "none")
    if text in SUBSETS:
        of_the_dataset = tuple(name for name in SUBSETS[text] if name in dataset.classes)
        return of_the_dataset or SUBSETS[text]
    return () if text == "none" else tuple(name.strip() for name in text.split(","))


def with_threshold(options: EvalOptions, segmenter: Segmenter, dataset: MaskFolder) -> tuple[ProtocolConfig, str]:
    """The protocol with its threshold, and the source of the threshold."""
    if options.threshold is not None:
        return replace(options.config, threshold=options.threshold), "--threshold"
    if dataset.background is None:
        return options.config, "nowhere: this folder has no background class"
    if options.config.background_rule == "probability":
        if options.dataset not in PUBLISHED_PROBABILITIES:
            raise ZerosegError("--background-rule probability: give --threshold, the lowest probability of a label")
        return replace(options.config, threshold=PUBLISHED_PROBABILITIES[options.dataset]), "SCLIP's configuration"
    if options.config.protocol == "groupvit":
        return replace(options.config, threshold=PAPER_THRESHOLDS[options.dataset]), "the ZeroSeg paper"
    return replace(options.config, threshold=segmenter.sidecar.threshold), "the model"


def set_names(segmenter: Segmenter, labels: LabelSet, options: EvalOptions) -> None:
    """Set the model's labels, with vectors from --pack or --text, and report which are approximate."""
    from zeroseg.words import LabelPack

    if options.pack is None:
        segmenter.set_labels(list(labels.names), text=options.text)
    else:
        given = LabelPack.load(options.pack)
        rows = {name: i for i, name in enumerate(given.names)}
        missing = [name for name in labels.names if name not in rows]
        if missing:
            raise ZerosegError(
                f"{options.pack}: has no vector for {len(missing)} of the names, for example {missing[0]!r}"
            )
        chosen = [rows[name] for name in labels.names]
        kind = [given.kind[row] for row in chosen]
        segmenter.set_labels(LabelPack(labels.names, given.vectors[chosen], given.space, kind))
    known = segmenter.pack.known
    if not all(known):
        click.echo("approximate words: " + ", ".join(n for n, k in zip(labels.names, known) if not k))


def write_results(options: EvalOptions, report: Report, sheet: Sheet, kind: str) -> None:
    """report-KIND.txt, report-KIND.json and, with --pictures, sheet-KIND.png in the output folder."""
    if options.out is None:
        return
    (options.out / f"report-{kind}.txt").write_text(report.table() + "\n", encoding="utf-8")
    (options.out / f"report-{kind}.json").write_text(report.json_line() + "\n", encoding="utf-8")
    if sheet.rows:
        sheet.draw().save(options.out / f"sheet-{kind}.png")
    click.echo(f"wrote {options.out}/report-{kind}.txt, .json" + (f" and sheet-{kind}.png" if sheet.rows else ""))
