"""The work of zeroseg-infer and zeroseg-serve on a camera, video or stream after their options are parsed."""

import math
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from tqdm import tqdm

from zeroseg.commands.ending import asked_to_end, wait_for_end
from zeroseg.commands.infer_run import approximate_words, kernels_used, parse_labels
from zeroseg.commands.live_options import HOST, MQTT_TOPIC, PORT, SMOOTHING_S
from zeroseg.errors import ZerosegError
from zeroseg.home.presence import HOLD_S, LEAST_AREA
from zeroseg.live.adjust import Adjustment
from zeroseg.live.frame import Source
from zeroseg.live.kinds import kind_of
from zeroseg.live.memory import limit_arenas
from zeroseg.live.pictures import PICTURES_PER_S
from zeroseg.live.pipeline import Pipeline
from zeroseg.live.sinks import JsonLines, PictureFiles, Sink, VideoFile, Window, has_display
from zeroseg.live.sources import open_source, picture_paths
from zeroseg.segment.segmenter import Segmenter

STUCK_S = 5.0  # after Ctrl-C, until it is said how a run is ended whose outputs take nothing
AT_ONCE = "Ctrl-Break" if sys.platform == "win32" else "Ctrl-\\"


@dataclass(frozen=True)
class LiveOptions:
    """The command's options, named as there."""

    labels: str
    text: str = "auto"
    threshold: float | None = None
    out: Path = Path("zeroseg-out")
    save: tuple[str, ...] = ()
    video: Path | None = None
    jsonl: str | None = None
    rle: bool = False
    alpha: float = 0.5
    camera: str | None = None
    size: tuple[int, int] | None = None
    fps: float | None = None
    rotate: str = "0"
    flip: str | None = None
    every: int = 1
    max_frames: int | None = None
    smooth: float | None = None
    legend: bool = True
    figures: bool = False
    headless: bool = False
    serve: bool = False
    host: str = HOST
    port: int = PORT
    token: str | None = None
    insecure: bool = False
    mqtt: str | None = None
    mqtt_topic: str = MQTT_TOPIC
    mqtt_hold: float = HOLD_S
    mqtt_least_area: float = 100 * LEAST_AREA
    mqtt_snapshot: str = "request"
    mqtt_login: Path | None = None
    mqtt_ca: Path | None = None
    mqtt_discovery: bool = True
    model: str | None = None
    backend: str = "auto"
    threads: int | None = None
    short_side: int | None = None


def run_live(sources: list[str], options: LiveOptions, started: float) -> None:
    """Run one source to its end, or to Ctrl-C. started: perf_counter at the command's start."""
    limit_arenas()
    if options.serve:
        from zeroseg.live.server import check_exposure

        check_exposure(options.host, options.token, options.insecure)
    home = home_options(options)
    labels = parse_labels(options.labels)
    pictures = all(kind_of(source) == "pictures" for source in sources)
    echo = _to_stderr if options.jsonl == "-" else click.echo
    source = open_any(sources, options, pictures, say=lambda line: tqdm.write(line, file=sys.stderr))
    try:
        video = _video_path(sources, source, options)
        segmenter = Segmenter.load(options.model, options.backend, options.threads, options.short_side)
        segmenter.set_labels(labels, text=options.text)
        for line in approximate_words(segmenter.pack):
            echo(line)
        sinks = make_sinks(source, options, video)
        smoothing_s = options.smooth if options.smooth is not None else (0.0 if pictures else SMOOTHING_S)
        pipeline = Pipeline(
            source,
            segmenter,
            sinks,
            smoothing_s,
            options.short_side is not None,
            threshold=options.threshold,
            alpha=options.alpha,
            legend=options.legend and not options.serve,
            figures=options.figures,
        )
        if home is not None:
            from zeroseg.home.sink import HomeSink

            home_sink = HomeSink(segmenter, pipeline, home, lambda line: tqdm.write(line, file=sys.stderr)).start()
            pipeline.sinks.append(home_sink)
    except BaseException:
        source.close()
        raise
    with asked_to_end() as asked:
        server = None
        if options.serve:
            from zeroseg.live.server import Server

            server = Server(segmenter, pipeline, options.host, options.port, options.token, text=options.text).start()
            echo(f"page: {server.address}  (Ctrl-C ends)")
        window = next((sink for sink in sinks if isinstance(sink, Window)), None)
        echo(
            f"{source.name}: model {segmenter.sidecar.name} on {segmenter.runner.backend}, "
            f"start {1000 * (time.perf_counter() - started):.0f} ms"
        )
        try:
            lines = _run(pipeline, window, asked, video, keep_open=server is not None)
        finally:
            if server is not None:
                server.stop()
            if window is not None:
                window.destroy()
        for line in [*lines, summary(pipeline, time.perf_counter() - pipeline.figures.started_s)]:
            echo(line)


def home_options(options: LiveOptions):
    """What --mqtt and its options say, checked; None without --mqtt."""
    if not options.mqtt:
        return None
    from zeroseg.home.address import check_topic, read_address
    from zeroseg.home.sink import HomeOptions

    return HomeOptions(
        read_address(options.mqtt, options.mqtt_login, options.mqtt_ca),
        check_topic(options.mqtt_topic),
        options.mqtt_hold,
        options.mqtt_least_area / 100,
        options.mqtt_snapshot,
        options.mqtt_discovery,
        options.text,
    )


def serve_photos(options: LiveOptions, collection=None) -> None:
    """A page and a REST interface without a live source, until Ctrl-C. collection: one to be searched besides."""
    from zeroseg.live.server import Server, check_exposure

    check_exposure(options.host, options.token, options.insecure)
    segmenter = Segmenter.load(options.model, options.backend, options.threads, options.short_side)
    segmenter.set_labels(parse_labels(options.labels), text=options.text)
    for line in approximate_words(segmenter.pack):
        click.echo(line)
    with asked_to_end() as asked:
        server = Server(
            segmenter,
            None,
            options.host,
            options.port,
            options.token,
            text=options.text,
            threshold=options.threshold,
            alpha=options.alpha,
            collection=collection,
        ).start()
        try:
            click.echo(f"page: {server.address}  (Ctrl-C ends)")
            wait_for_end(asked)
        finally:
            server.stop()


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)


def open_any(sources: list[str], options: LiveOptions, pictures: bool, say) -> Source:
    """The source with the options' adjustments."""
    adjustment = Adjustment(
        rotate=int(options.rotate),
        flip=options.flip,
        size=options.size,
        fps=None if pictures else options.fps,
        every=options.every,
        max_frames=options.max_frames,
    )
    paced = options.serve and options.video is None and options.jsonl is None and not options.save
    return open_source(sources, adjustment, picture_rate=options.fps or PICTURES_PER_S, pace=paced, loop=paced, say=say)


def _video_path(sources: list[str], source: Source, options: LiveOptions) -> Path | None:
    """Where the video goes: --save's, or for a file with nothing else asked for, one in --out."""
    video = options.video
    if (
        video is None
        and not source.live
        and not (options.save or options.jsonl or options.serve or options.headless or options.mqtt)
    ):
        video = options.out / f"{Path(source.name.rstrip('/')).stem or 'pictures'}_overlay.mp4"
    _overwrite_nothing(sources, video, options)
    return video


def _overwrite_nothing(sources: list[str], video: Path | None, options: LiveOptions) -> None:
    """Raise where a file to write is one of those that are read, or where two are one."""
    inputs = [Path(text) for text in (*sources, options.text, options.model or "")]
    if options.labels.startswith("@") or options.labels.endswith(".npz"):
        inputs.append(Path(options.labels.removeprefix("@")))
    if all(kind_of(text) == "pictures" for text in sources):
        inputs += picture_paths(sources)
    jsonl = Path(options.jsonl) if options.jsonl and options.jsonl != "-" else None
    for option, path in (("--save", video), ("--jsonl", jsonl)):
        if path is not None and any(read.is_file() and path.is_file() and path.samefile(read) for read in inputs):
            raise ZerosegError(f"{path}: is an input and would be overwritten; choose another {option}")
    if video is not None and jsonl is not None and os.path.realpath(video) == os.path.realpath(jsonl):
        raise ZerosegError(f"{jsonl}: cannot be both the video and the JSON lines; choose another --jsonl")
    for kind in options.save:
        if taken := next(
            (
                path
                for path in inputs
                if re.fullmatch(rf"\d{{6,}}_{kind}\.png", path.name)
                and os.path.realpath(path.parent) == os.path.realpath(options.out)
            ),
            None,
        ):
            raise ZerosegError(f"{taken}: is an input and might be overwritten; choose another --out")


def make_sinks(source: Source, options: LiveOptions, video: Path | None) -> list[Sink]:
    """The sinks that the options ask for; a window for a live source where there is a display."""
    sinks: list[Sink] = []
    if video is not None:
        sinks.append(VideoFile(video, options.fps if source.live and options.fps else source.rate))
    if options.save:
        sinks.append(PictureFiles(options.out, options.save))
    if options.jsonl:
        sinks.append(JsonLines(options.jsonl, options.rle))
    if source.live and not options.headless and not options.serve:
        if has_display():
            sinks.append(Window(f"zeroseg: {source.name}"))
        elif not sinks and not options.mqtt:
            raise ZerosegError(
                "there is no display for a window: use --serve, --save out.mp4 or --jsonl FILE (or "
                "--headless, for statistics only)"
            )
    return sinks


def _run(
    pipeline: Pipeline, window: Window | None, asked: Callable[[], bool], video: Path | None, keep_open: bool
) -> list[str]:
    """Run with a progress bar; a page stays open after its source has ended."""
    ended_s, told = math.inf, False
    with tqdm(total=pipeline.source.frame_count, unit="frame", disable=None, leave=False) as bar:

        def poll():
            nonlocal ended_s, told
            bar.n = pipeline.figures.frames
            bar.set_postfix({"dropped": pipeline.dropped} if pipeline.source.live else {}, refresh=True)
            if window is not None:
                window.poll()
            if ended_s == math.inf and (asked() or window is not None and window.closed.is_set()):
                ended_s = time.monotonic()
                if video is not None:
                    tqdm.write(f"finishing {video}", file=sys.stderr)
                pipeline.stop()
            if not told and time.monotonic() - ended_s > STUCK_S:
                told = True
                tqdm.write(
                    f"still flushing buffered frames; {AT_ONCE} quits now and discards them",
                    file=sys.stderr,
                )

        lines = pipeline.run(poll, 0.02 if window else 0.1)
    if keep_open and not asked():
        click.echo(f"{pipeline.source.name}: ended; the page stays open (Ctrl-C quits)")
        wait_for_end(asked)
    return lines


def summary(pipeline: Pipeline, seconds: float) -> str:
    """One line of figures."""
    figures = pipeline.figures
    p50, p95, _ = figures.latency_quantiles_ms()
    parts = [f"{figures.frames} frames in {seconds:.1f} s ({figures.frames / max(seconds, 1e-9):.1f} FPS)"]
    if pipeline.source.live:
        parts += [f"{pipeline.dropped} dropped", f"latency {p50:.0f} ms (95 %: {p95:.0f} ms)"]
        if pipeline.source.reconnects:
            parts.append(f"{pipeline.source.reconnects} reconnects")
    stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in figures.stages_ms().items() if stage != "wait")
    return f"{', '.join(parts)}; ms: {stages}; kernels {kernels_used()}"
