"""The work of zeroseg-infer after its options are parsed."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
from tqdm import tqdm

from zeroseg import drawing
from zeroseg.commands.photo_files import CONTACT_NAME, find_photos, plan_outputs, save_json
from zeroseg.errors import ZerosegError
from zeroseg.files import make_folder, read_text, save_png
from zeroseg.formats.dataset import Dataset, DatasetOptions, refuse_existing
from zeroseg.formats.kinds import FORMATS
from zeroseg.formats.photo import labelled
from zeroseg.kernels import _native
from zeroseg.kernels._dispatch import last_impl
from zeroseg.photos.listing import printable
from zeroseg.segment.segmenter import Segmentation, Segmenter
from zeroseg.words import explain, split_words, words_of_lines

CONTACT_PHOTOS = 400  # on one sheet: 20 x 20


@dataclass(frozen=True)
class InferOptions:
    """The command's options, named as there; labels is still text."""

    labels: str
    text: str
    threshold: float | None
    out: Path
    save: tuple[str, ...]
    alpha: float
    legend: bool
    model: str | None
    backend: str
    threads: int | None
    short_side: int | None = None
    edges: str = "on"


def run_infer(sources: list[str], options: InferOptions, started: float) -> int:
    """Segment every photo of sources; return how many could not be. started: perf_counter at the command's start."""
    labels = parse_labels(options.labels)
    photos, failed = find_photos(sources)
    asked = len(photos) + failed
    if not photos:
        return failed
    outputs = plan_outputs(photos, options.out, options.save)
    kinds = [kind for kind in options.save if kind in FORMATS]
    for kind in kinds:
        refuse_existing(options.out / kind, "--out")
    segmenter = Segmenter.load(options.model, options.backend, options.threads, options.short_side)
    segmenter.set_labels(labels, text=options.text)
    for line in approximate_words(segmenter.pack):
        click.echo(line)
    make_folder(options.out)
    sheet = []
    with ExitStack() as stack:
        datasets = {
            kind: stack.enter_context(
                Dataset(kind, options.out / kind, segmenter.pack.names, DatasetOptions(), "--out")
            )
            for kind in kinds
        }
        ready_ms = 1000 * (time.perf_counter() - started)
        bar = stack.enter_context(
            tqdm(total=len(photos), unit="photo", disable=None if len(photos) > 1 else True, leave=False)
        )
        for photo in photos:
            try:
                result = segmenter.segment(photo, options.threshold, edges=options.edges == "on")
                write_ms = write_results(result, photo, outputs[photo], options, sheet)
                for dataset in datasets.values():
                    dataset.add(labelled(printable(str(photo)), result, photo.read_bytes))
            except (ZerosegError, ValueError, OSError, MemoryError) as error:
                failed += 1
                bar.write(f"Error: {error or 'out of memory'}", file=sys.stderr)
            else:
                bar.write("\n".join(report(photo, result, write_ms, outputs[photo])))
            bar.update()
    for kind, dataset in datasets.items():
        if dataset.photos:
            click.echo(f"{kind}: {options.out / kind}, {dataset.photos} photos")
    if "contact" in options.save and sheet:
        save_png(options.out / CONTACT_NAME, drawing.contact_sheet(sheet))
        click.echo(f"contact sheet of {len(sheet)}: {options.out / CONTACT_NAME}")
    if asked > 1:
        click.echo(f"{asked} inputs, {failed} failed" if failed else f"{asked} photos")
    if failed < asked:
        click.echo(
            f"model {segmenter.sidecar.name} on {segmenter.runner.backend}, kernels {kernels_used()}, "
            f"start {ready_ms:.0f} ms, in all {time.perf_counter() - started:.2f} s"
        )
    return failed


def kernels_used() -> str:
    """The implementation that the kernels used, and why it was not the fast one."""
    reason = _native.why_not() if last_impl("mask_decode") == "reference" else None
    return f"{last_impl('mask_decode') or 'unused'}{f' ({reason})' if reason else ''}"


def parse_labels(text: str):
    """--labels: a list of words, or the path of a label pack."""
    if text.endswith(".npz"):
        return text
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            words = words_of_lines(read_text(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "expected UTF-8 text with one label per line"
            raise ZerosegError(f"--labels {text}: cannot be read ({reason})") from error
    else:
        words = split_words(text)
    if not words:
        raise ZerosegError(f'--labels {text!r}: no words in it; expected something like "cat,sofa"')
    return words


def approximate_words(pack) -> Iterator[str]:
    """A line for every label outside the vocabulary."""
    for name, mark, nearest in zip(pack.names, pack.marks, pack.nearest, strict=True):
        near = f", near {', '.join(nearest[:3])}" if nearest else ""
        if mark == "?" and _means_nothing(name):
            yield f"? {name}: unknown to the model, so it will hardly ever match (use English nouns, or --text NPZ)"
        elif mark == "?":
            yield f"? {name}: not an English noun; its meaning is guessed{near}"
        elif mark:
            several = _things_in(name)
            hint = f'; if these are several things, write "{",".join(several)}"' if several else ""
            yield f"~ {name}: not in the model's vocabulary; its meaning is approximate{near}{hint}"


def _means_nothing(name: str) -> bool:
    """Whether a guessed word has a direction of its own, which is near the names it is near by chance."""
    try:
        return not explain([name])[0].used
    except ValueError:  # no text at all, but a pack may have a vector for it
        return False


def _things_in(name: str) -> list[str]:
    """The words of a phrase where each is a name known by heart, as in "cat dog" (but in "carrot cake" too)."""
    words = [word for word in re.findall(r"[\w'-]+", name) if word.lower() not in ("and", "or")]
    try:
        whole, *parts = (reading.kind for reading in explain([name, *words]))
    except ValueError:  # no text at all, but a pack may have a vector for it
        return []
    return words if whole == "phrase" and len(parts) > 1 and set(parts) == {"name"} else []


def write_results(
    result: Segmentation, photo: Path, files: dict[str, Path], options: InferOptions, sheet: list
) -> float:
    """Write the files that were asked for, add to the contact sheet; return the milliseconds it took."""
    start = time.perf_counter()
    if "overlay" in files or "contact" in options.save:
        overlay = result.overlay(options.alpha, options.legend)
        if "overlay" in files:
            save_png(files["overlay"], overlay)
        if "contact" in options.save and len(sheet) < CONTACT_PHOTOS:
            overlay.thumbnail((drawing.CELL_PX, drawing.CELL_PX))
            sheet.append(overlay)
    if "labels" in files:
        save_png(files["labels"], result.label_picture())
    if "json" in files:
        save_json(files["json"], {"image": printable(str(photo)), **result.to_dict()})
    return 1000 * (time.perf_counter() - start)


def report(photo: Path, result: Segmentation, write_ms: float, files: dict[str, Path]) -> list[str]:
    """The lines to print about one photo."""
    height, width = result.label_map.shape
    lines = [f"{printable(str(photo))}  {width} x {height}"]
    for region in result.found:
        mark = result.marks[region.index] or " "
        lines.append(f" {mark} {region.label:<20} score {region.score:.3f}  {region.area:6.1%} of the photo")
    if not result.found:
        best = int(result.scores.argmax())
        lines.append(
            f"   no label scored {result.threshold:.3f} or more; the best was {result.labels[best]} with "
            f"{result.scores[best]:.3f} (lower --threshold to see it)"
        )
    stages = {**result.timings_ms, "write": write_ms}
    lines.append("   ms: " + ", ".join(f"{stage} {ms:.1f}" for stage, ms in stages.items()))
    lines.append(f"   wrote: {', '.join(map(str, files.values()))}" if files else "   wrote no file of its own")
    return lines
