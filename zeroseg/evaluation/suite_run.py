"""Measure a model on every set of a suite, set by set and photo by photo, so that a killed run goes on where it was.

OUT has a file of counts per set (zeroseg.evaluation.checkpoint), and at the end report.json and report.md.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

from zeroseg import __version__
from zeroseg.dense.spec import is_dense_name, parse_spec
from zeroseg.errors import ZerosegError
from zeroseg.evaluation import checkpoint
from zeroseg.evaluation.evaluate import evaluate
from zeroseg.evaluation.folders import MaskFolder
from zeroseg.evaluation.label_sets import LabelSet, label_set
from zeroseg.evaluation.network import SegmenterPredict
from zeroseg.evaluation.protocol import ProtocolConfig
from zeroseg.evaluation.published_names import published_labels
from zeroseg.evaluation.report import Report
from zeroseg.evaluation.run import EvalOptions, set_names, with_threshold
from zeroseg.evaluation.suite import SUITES, Found, SuiteSet, find_sets
from zeroseg.evaluation.suite_report import SuiteReport, model_note
from zeroseg.files import make_folder, sha256, write_text
from zeroseg.segment.segmenter import Segmenter
from zeroseg.sidecar import Sidecar
from zeroseg.words import LabelPack

SAVE_EVERY_S = 15.0  # at most so much work is lost by a kill
LABELS = ("published", "official", "plain")
# SCLIP, NACLIP and SC-CLIP read Cityscapes with a short side of 560 px where the other sets have 336
CITYSCAPES_SIDE = 560 / 336


@dataclass(frozen=True)
class Suite:
    """What the command says of the suite itself. name: of SUITES. folders: those of --set. rule, logit_scale: how
    background is decided, None: as published for an open_clip model, else as the model is deployed.
    """

    name: str
    folders: Mapping[str, Path]
    rule: str | None = None
    logit_scale: float | None = None


@dataclass
class Measured:
    """One set on its way: what is asked of it, in which words, and the counts so far."""

    entry: SuiteSet
    dataset: MaskFolder
    labels: LabelSet
    pack: LabelPack
    sidecar: Sidecar
    config: ProtocolConfig
    threshold_from: str
    count: int
    digest: str
    report: Report

    @property
    def done(self) -> int:
        return len(self.report.predict_ms)


def run_suite(options: EvalOptions, suite: Suite) -> None:
    """Find the sets, measure what is not measured yet, print the table and one JSON line, and write both.

    options: those of the command that make sense here; labels None: what suits the model's kind.
    """
    found = find_sets(SUITES[suite.name], options.folder, suite.folders)
    segmenter = Segmenter.load(options.model, options.backend, options.threads)
    out = options.out or Path(f"{suite.name}-{_slug(segmenter.sidecar.name)}")
    for column, reason in found.missing.items():
        click.echo(f"Note: {column} is skipped: {reason}", err=True)
    if not options.dry_run:
        make_folder(out)
    rows = prepare(options, suite, found, segmenter, out)
    if options.dry_run:
        click.echo(json.dumps({"suite": suite.name, "out": str(out), "sets": {r.entry.column: _plan(r) for r in rows}}))
        return
    measure(rows, segmenter, out)
    about = {
        "suite": suite.name,
        "model": segmenter.sidecar.name,
        "spec": options.model,
        "backend": segmenter.runner.backend,
        "zeroseg": __version__,
        "note": model_note(segmenter.sidecar),
    }
    results = {row.entry.column: row.report.summary() | _plan(row) for row in rows}
    report = SuiteReport(SUITES[suite.name], results, dict(found.missing), about)
    write_text(out / "report.json", report.json_text(indent=1) + "\n")
    write_text(out / "report.md", report.markdown())
    click.echo(report.markdown())
    click.echo(f"wrote {out}/report.md and report.json", err=True)
    click.echo(report.json_text())


def prepare(options: EvalOptions, suite: Suite, found: Found, segmenter: Segmenter, out: Path) -> list[Measured]:
    """Words, settings and earlier counts of every set that is there, before anything is measured."""
    identity, rows = _identity(options, segmenter), []
    for entry in SUITES[suite.name]:
        dataset = found.folders.get(entry.column)
        if dataset is None:
            continue
        sidecar = _sidecar(options, entry, segmenter.sidecar)
        config, source = _config(options, suite, entry, segmenter, dataset)
        labels = _labels(options, entry, dataset, sidecar)
        set_names(segmenter, labels, options)
        about = {
            "model": identity,
            "input": [sidecar.input.short_side, sidecar.input.max_long_side],
            "config": {key: str(value) for key, value in config.in_use().items()},
            "labels": [labels.names, labels.class_ids.tolist()],
        }
        digest = checkpoint.digest_of(dataset, options.limit, segmenter.pack.vectors, about)
        report = Report(dataset, labels, config)
        checkpoint.load(_file(out, entry), report, digest)
        count = min(len(dataset), options.limit or len(dataset))
        rows.append(
            Measured(entry, dataset, labels, segmenter.pack, sidecar, config, source, count, digest, report)
        )  # fmt: skip
    return rows


def measure(rows: list[Measured], segmenter: Segmenter, out: Path) -> None:
    """Measure what is missing, with one bar over all sets; the time left is by the mean over all photos so far."""
    from tqdm import tqdm

    total, done = sum(row.count for row in rows), sum(row.done for row in rows)
    with tqdm(total=total, initial=done, unit="photo", file=sys.stderr, smoothing=0) as bar:
        for row in rows:
            if row.done >= row.count:
                continue
            bar.set_description(row.entry.column)
            segmenter.pack, segmenter.sidecar = row.pack, row.sidecar
            _measure(row, segmenter, _file(out, row.entry), bar)


def _measure(row: Measured, segmenter: Segmenter, file: Path, bar) -> None:
    saved = [time.monotonic()]
    background = row.dataset.background

    def counted(report: Report) -> None:
        bar.update()
        if time.monotonic() - saved[0] >= SAVE_EVERY_S:
            checkpoint.save(file, report, row.digest)
            saved[0] = time.monotonic()

    predict = SegmenterPredict(segmenter, background is not None and background not in row.labels.class_ids)
    evaluate(
        predict, row.dataset, row.config, row.labels, limit=row.count, begun=row.report, on_report=counted
    )  # fmt: skip
    checkpoint.save(file, row.report, row.digest)


def _file(out: Path, entry: SuiteSet) -> Path:
    return out / f"{entry.dataset}.npz"


def _identity(options: EvalOptions, segmenter: Segmenter) -> dict:
    """What tells this model from another: the checksum of its file, or an open_clip name and its files' checksums."""
    said = {"backend": segmenter.runner.backend, "zeroseg": __version__}
    if segmenter._file is not None:
        return said | {"sha256": sha256(segmenter._file)}
    from zeroseg.dense.weights import weights_file

    spec = parse_spec(options.model)
    file, helper = weights_file(spec.weights), spec.helper and Path(spec.helper)
    said |= {"spec": options.model, "sha256": file and sha256(file)}
    return said | {"helper_sha256": sha256(helper)} if helper and helper.is_file() else said


def _labels(options: EvalOptions, entry: SuiteSet, dataset: MaskFolder, sidecar: Sidecar) -> LabelSet:
    """--labels, or the published words for CLIP's towers and the sets' own spelling for models with a word table."""
    kind = options.labels or ("published" if sidecar.dense is not None else "official")
    if kind not in LABELS:
        raise ZerosegError(f"--labels {kind}: a suite has {', '.join(LABELS)}")
    return published_labels(entry.dataset) if kind == "published" else label_set(dataset, kind)


def _config(
    options: EvalOptions, suite: Suite, entry: SuiteSet, segmenter: Segmenter, dataset: MaskFolder
) -> tuple[ProtocolConfig, str]:
    """The protocol of a set: without background every pixel gets a label; else the threshold and its source."""
    config, sidecar = options.config, segmenter.sidecar
    if dataset.background is None:
        config, source = replace(config, background_rule="score", threshold=-math.inf), "no background class"
    else:
        if (suite.rule or ("probability" if sidecar.dense is not None else "score")) == "probability":
            scale = suite.logit_scale or entry.logit_scale
            config = replace(config, background_rule="probability", logit_scale=scale)
        config, source = with_threshold(replace(options, config=config, dataset=entry.dataset), segmenter, dataset)
    return replace(config, multiple_px=sidecar.input.multiple), source


def _sidecar(options: EvalOptions, entry: SuiteSet, sidecar: Sidecar) -> Sidecar:
    """The model's own input, but for Cityscapes what published readings of CLIP take, unless the name says a size."""
    if entry.dataset != "cityscapes" or sidecar.dense is None:
        return sidecar
    if is_dense_name(options.model) and parse_spec(options.model).short_side:
        return sidecar
    side = round(sidecar.input.short_side * CITYSCAPES_SIDE)
    return replace(sidecar, input=replace(sidecar.input, short_side=side))


def _plan(row: Measured) -> dict:
    """What is asked of a set, for the report and -n."""
    known = row.pack.known
    return {
        "photos": row.count,
        "of": len(row.dataset),
        "measured": row.done,
        "words": row.labels.kind,
        "approximate": sum(not k for k in known),
        "short_side": row.sidecar.input.short_side,
        "threshold_from": row.threshold_from,
        "config": {key: str(v) if v == -math.inf else v for key, v in row.config.in_use().items()},
    }


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "model"
