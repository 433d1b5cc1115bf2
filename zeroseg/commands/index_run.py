"""The work of zeroseg index, after its options are parsed."""

import functools
import os
import sys
import time
from dataclasses import dataclass

import click
from tqdm import tqdm

from zeroseg.annotate.pool import work_in_processes
from zeroseg.artifact import Artifact, read_artifact
from zeroseg.collection.listing import compressed_hint
from zeroseg.commands.annotate_run import processes_for, progress_bar
from zeroseg.errors import ZerosegError
from zeroseg.files import sha256
from zeroseg.search.collection import Collection
from zeroseg.search.encoding import Encoder
from zeroseg.search.indexing import Appender, Changes, batches, begin, find_changes, local, of_photos, write_bad
from zeroseg.search.store import Store, load_lancedb
from zeroseg.search.units import list_units

RAY_PROCESSES = 64  # assumed for the batch size, because a cluster's number of processes is not known before


@dataclass(frozen=True)
class IndexOptions:
    """The command's options under their own names; every: in seconds."""

    out: str
    every: float = 1.0
    model: str | None = None
    backend: str = "auto"
    processes: int | None = None
    threads: int | None = None
    ray: str | None = None


def run_index(sources: list[str], options: IndexOptions) -> bool:
    """Bring the collection up to date; return whether it was stopped early."""
    load_lancedb()
    for source in sources:
        if not os.path.exists(source):
            raise ZerosegError(f"{source}: no such file or folder")
    artifact = read_artifact(options.model, options.backend)
    if artifact.sidecar.dense is not None:
        raise ZerosegError(f"model {artifact.sidecar.name} has no segments, which a search needs; use another --model")
    store = Store(options.out, storage_options())
    if not sources and not store.exists:
        raise ZerosegError(f"{options.out}: no such collection; give the photos to encode: zeroseg index PHOTOS -o DIR")
    with store.writing():
        return _run(store, sources, options, artifact)


def _run(store: Store, sources: list[str], options: IndexOptions, artifact: Artifact) -> bool:
    began = time.perf_counter()
    threads, processes = options.threads or 1, processes_for(artifact.backend, options)
    model = (
        options.model if options.model is None or not os.path.exists(options.model) else os.path.abspath(options.model)
    )
    about = {"name": artifact.sidecar.name, "sha256": sha256(artifact.path)}
    encoder = Encoder(model, options.backend, threads)  # reports now, in one line, if the model cannot run
    appender = None
    try:
        changes = _changes(store, sources, options)
        begin(store, artifact.sidecar, about, {os.path.realpath(one): one for one in sources}, options.every)
        if changes.forget:
            store.forget(changes.forget)
        count, processes = len(changes.todo), min(processes, len(changes.todo))
        with progress_bar("encoding", count, 0, "image") as bar:
            work = batches(changes.todo, RAY_PROCESSES if options.ray else max(1, processes), count)
            if count and options.ray:
                appender = on_ray(store, work, (model, options.backend, threads), options.ray, bar)
            elif processes == 1:
                appender = local(store, work, encoder, bar.update)
            elif count:
                del encoder
                appender = in_processes(store, work, model, options, threads, processes, bar)
    except KeyboardInterrupt:
        click.echo("stopped; finished photos are kept, and the same command continues", err=True)
        return True
    if appender is not None or changes.forget:
        store.tidy()
        _prepare(Collection(store, {}))
    _report(store, changes, appender, time.perf_counter() - began, options, processes)
    return False


def _prepare(collection: Collection) -> None:
    """Store what searches read; of a million images this takes minutes."""
    if collection.store.remote or not collection.is_large:
        return collection.prepare()
    try:
        with progress_bar("preparing searches", 2 * len(collection), 0, "image") as bar:
            collection.prepare(bar.update)
    except KeyboardInterrupt:
        click.echo("stopped; all images are indexed, and the first search does the rest", err=True)


def _changes(store: Store, sources: list[str], options: IndexOptions) -> Changes:
    """List the sources and compare them with the collection; without sources, all that it was ever given."""
    done = store.done() if store.exists else {}
    known = store.about()["sources"] if store.exists else {}
    given = {os.path.realpath(source): source for source in sources}
    listed = {source: known.get(source, name) for source, name in (given or known).items()}
    leave = [] if store.remote else [store.path]
    for source in listed:
        if not os.path.exists(source):
            raise ZerosegError(
                f"{source}: was indexed and no longer exists; mount or restore it, or give the PHOTOS to check"
            )
    with progress_bar("listing", None, 0, "image") as bar:
        units = (bar.update() or unit for unit in list_units(listed, leave, options.every))
        changes = find_changes(units, done, list(listed))
    if not changes.todo and not changes.same and not done:
        raise ZerosegError(f"no photo or video in {', '.join(listed.values())}{compressed_hint(listed)}")
    return changes


def in_processes(
    store: Store, work, model: str | None, options: IndexOptions, threads: int, processes: int, bar: tqdm
) -> Appender:
    """Encode batches in several processes; only this process writes."""
    appender = Appender(store)
    say = functools.partial(bar.write, file=sys.stderr)
    make = functools.partial(Encoder, model, options.backend, threads)
    try:
        work_in_processes(make, work, processes, bar.update, say, lambda batch, units: appender.add(units))
    finally:
        appender.flush()
    return appender


def on_ray(store: Store, work, encoder: tuple, address: str, bar: tqdm) -> Appender:
    """Encode batches on a Ray cluster; only this process writes."""
    from zeroseg.search.ray_encoding import encode_on_ray

    appender = Appender(store)

    def take(units) -> None:
        appender.add(units)
        bar.update(len(units))

    try:
        encode_on_ray(work, encoder, address, take)
    finally:
        appender.flush()
    return appender


def _report(
    store: Store, changes: Changes, appender: Appender | None, seconds: float, options: IndexOptions, processes: int
) -> None:
    photos, videos = of_photos(changes.todo)
    images = appender.images if appender else 0
    how = f"Ray at {options.ray}" if options.ray else f"{processes} process{'es' * (processes != 1)}"
    click.echo(
        f"{store.count():,} images in {options.out}: {images:,} new or changed"
        + (f" ({photos:,} photos and {videos:,} videos were read)" if videos else "")
        + f", {changes.vanished:,} vanished, {changes.same:,} as before; {seconds:.1f} s"
        + (f", {images / seconds:.1f} images/s, {how}" if images else "")
    )
    if bad := write_bad(store):
        where = os.path.join(options.out, "bad.txt") if not store.remote else "listed in its table `without`"
        click.echo(f"{bad} bad files: {where}", err=True)


def storage_options() -> dict[str, str] | None:
    """Options for S3-compatible storage, from AWS_ENDPOINT_URL; LanceDB itself reads the other AWS_* variables."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return None
    return {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()}
