"""The work of zeroseg annotate after its options are parsed."""

import functools
import os
import sys
import time
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import click
from tqdm import tqdm

from zeroseg.annotate.job import Job, Labeller, done_parts, require_pyarrow
from zeroseg.annotate.pool import work_in_processes
from zeroseg.annotate.summary import contact_sheet, summarise
from zeroseg.artifact import read_artifact
from zeroseg.collection.plan import open_plan
from zeroseg.commands.words import read_words
from zeroseg.errors import ZerosegError
from zeroseg.files import make_folder, remove_leftovers, sha256, whole_file
from zeroseg.formats.convert import convert
from zeroseg.formats.dataset import refuse_existing
from zeroseg.kernels._threads import available_threads
from zeroseg.segment.segmenter import Segmenter
from zeroseg.words import LabelPack, embed_labels

LOG_EVERY_S = 30  # between lines of progress where stderr is no terminal


@dataclass(frozen=True)
class AnnotateOptions:
    """The command's options, named as there; labels is still text."""

    out: Path
    labels: str | None = None
    text: str = "auto"
    threshold: float | None = None
    masks: bool = False
    summary: bool = False
    model: str | None = None
    backend: str = "auto"
    processes: int | None = None
    threads: int | None = None
    part_size: int | None = None
    to: str | None = None
    ray: str | None = None


def run_annotate(sources: list[str], options: AnnotateOptions) -> bool:
    """Label the photos that are not labelled yet; return whether it was stopped early."""
    require_pyarrow()
    folder = options.out.absolute()
    stopped = False
    if options.to:
        refuse_existing(options.out / options.to, "-o")
    if sources:
        for source in sources:
            if not os.path.exists(source):
                raise ZerosegError(f"{source}: no such file or folder")
        _check_names(sources, options.masks)
        _check_out(sources, options.out)
        artifact = read_artifact(options.model, options.backend)
        threads, processes = options.threads or 1, processes_for(artifact.backend, options)
        pack = read_labels(options)
        pack.require(artifact.sidecar.embedding_space, artifact.sidecar.embedding_dim)
        make_folder(options.out)
        (folder / "parts").mkdir(exist_ok=True)
        begin(folder, options, artifact, pack, threads)
        stopped = _label(folder, sources, options, threads, processes)
    elif not (folder / "job.json").is_file():
        raise ZerosegError(f"{options.out}: has no labelling results yet; give PHOTOS and --labels")
    summary = summarise(folder)
    if options.summary and not stopped:
        for line in summary.lines():
            click.echo(line)
        sheet = contact_sheet(folder, LabelPack.load(folder / "labels.npz").names)
        if sheet is not None:
            with whole_file(folder / "contact.png") as partial:
                sheet.save(partial, format="PNG")
            click.echo(f"contact sheet: {options.out / 'contact.png'}")
    if options.to and not stopped:
        done, bad = convert([options.out], options.to, options.out / options.to)
        left_out = f"; left out {bad} that could not be labelled" if bad else ""
        click.echo(f"{done} photos as {options.to}: {options.out / options.to}{left_out}")
    if summary.bad:
        click.echo(f"{summary.bad} bad photos: {options.out / 'bad.txt'}", err=True)
    return stopped


def processes_for(backend: str, options) -> int:
    """The number of processes. On CPUs, one thread each gives the most photos per second, because every photo is
    decoded alone. On a GPU there is one process.
    """
    if options.processes:
        return options.processes
    on_gpu = backend.startswith(("tensorrt", "torch-cuda", "onnxruntime-"))
    return 1 if on_gpu else max(1, available_threads() // (options.threads or 1))


def read_labels(options: AnnotateOptions) -> LabelPack:
    """The labels as vectors, embedded once for all processes."""
    if options.labels.endswith(".npz"):
        return LabelPack.load(options.labels)
    words = read_words(options.labels)
    if not words:
        raise ZerosegError(f'--labels {options.labels!r}: no words in it; expected something like "cat,sofa"')
    return embed_labels(words, text=options.text)


def begin(folder: Path, options: AnnotateOptions, artifact, pack: LabelPack, threads: int) -> None:
    """Write job.json and labels.npz, or check that the existing ones belong to this job."""
    model = options.model
    if model is not None and Path(model).exists():
        model = os.path.abspath(model)
    Segmenter.load(model, options.backend, threads)  # a model that cannot run is told now, in one line
    with whole_file(folder / "labels.npz", suffix=".npz") as partial:
        pack.save(partial)
        Job(
            model, sha256(artifact.path), options.backend, threads, digest_of(pack), options.threshold, options.masks
        ).begin(folder)


def digest_of(pack: LabelPack) -> str:
    """Equal for packs that give equal labels."""
    import hashlib

    names = "\n".join(pack.names)
    return hashlib.sha256(f"{pack.space}\n{names}\n".encode() + pack.vectors.tobytes()).hexdigest()


def _label(folder: Path, sources: list[str], options: AnnotateOptions, threads: int, processes: int) -> bool:
    """List the photos, label the parts that are not done; True if it was stopped."""
    began = time.perf_counter()
    try:
        with progress_bar("listing photos", None, 0) as bar:
            plan = open_plan(folder, sources, options.part_size, processes, bar.update)
        remove_leftovers(folder / "parts")
        done = done_parts(folder, plan)
        before = sum(plan.size(part) for part in range(plan.parts) if done[part])
        todo = [part for part in range(plan.parts) if not done[part]]
        processes = min(processes, len(todo))
        with progress_bar("labelling", plan.photos, before) as bar:
            if todo and options.ray:
                from zeroseg.annotate.ray_job import label_on_ray

                label_on_ray(folder, todo, options.ray, threads, bar.update)
            elif processes == 1:
                labeller = Labeller(folder)
                for part in todo:
                    labeller.part(part, on_photo=bar.update)
            elif todo:
                make, say = functools.partial(Labeller, folder), functools.partial(bar.write, file=sys.stderr)
                work_in_processes(make, iter(todo), processes, bar.update, say)
    except KeyboardInterrupt:
        click.echo("stopped; finished parts are kept, and the same command resumes", err=True)
        return True
    seconds = time.perf_counter() - began
    labelled = plan.photos - before
    how = f"Ray at {options.ray}" if options.ray else f"{processes} process{'es' if processes != 1 else ''}"
    click.echo(
        f"{plan.photos} photos in {folder / 'parts'}"
        + (f", {before} of them before" if before else "")
        + (
            f"; {labelled} in {seconds:.1f} s, {labelled / seconds:.1f} photos/s, {how} of {threads} thread"
            f"{'s' if threads != 1 else ''}"
            if labelled
            else ""
        )
    )
    return False


def progress_bar(label: str, total: int | None, done: int, unit: str = "photo") -> tqdm:
    """Progress with the time left and the rate; a line every LOG_EVERY_S seconds where stderr is no terminal."""
    pause_s = 0.2 if sys.stderr.isatty() else LOG_EVERY_S
    return tqdm(
        desc=label,
        unit=unit,
        total=total,
        initial=done,
        smoothing=0.05,
        dynamic_ncols=True,
        mininterval=pause_s,
        maxinterval=pause_s,
        leave=total is not None,
    )


def _check_names(sources: list[str], masks: bool) -> None:
    """Masks lie under the photos' names without the steps that lead out of the folder: these must still differ."""
    names = [Path(source).parts for source in sources]
    plain = [tuple(step for step in steps if step not in ("..", os.sep)) for steps in names]
    for (i, one), (j, other) in permutations(enumerate(plain), 2):
        inside = os.path.join(os.path.realpath(sources[i]), *other[len(one) :])
        if masks and other[: len(one)] == one and inside != os.path.realpath(sources[j]):
            raise ZerosegError(
                f"--masks: {sources[i]} and {sources[j]} differ only in .. and /, so their masks would "
                "collide; give absolute paths"
            )


def _check_out(sources: list[str], out: Path) -> None:
    """The results' own folders hold no photos: a job's files would lie among them, or be written over them."""
    folder = Path(os.path.realpath(out))
    for source in sources:
        real = Path(os.path.realpath(source))
        home = real if real.is_dir() else real.parent
        if home == folder or any(inside in (home, *home.parents) for inside in (folder / "masks", folder / "parts")):
            raise ZerosegError(f"{out}: contains the photos to label ({source}); choose another -o")
