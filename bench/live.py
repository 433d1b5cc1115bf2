"""Measure live video end to end: frames per second, capture-to-display latency, drops, memory, time to recover.

"Displayed" means drawn and encoded as the JPEG that the page sends. The test pattern is a live source at 30 frames per
second, of which the newest frame is taken. The video file is played at its own speed in the same way. Recovery is the
time from the restart of an MJPEG or RTSP server on loopback to the first frame shown from it.

    python bench/live.py                 a short look
    python bench/live.py --full          ten minutes per source, for the memory
    python bench/live.py --viewers 50    frame rate with and without viewers of the page
"""

import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import threading
import time
from array import array
from collections import defaultdict
from pathlib import Path

import click

try:
    import zeroseg
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    import zeroseg

FULL_S = 600
LABELS = "cat,dog,person,ball,grass,sky"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--model", metavar="FILE|NAME", help="Model to run.  [default: bundled]")
@click.option("--labels", default=LABELS, metavar="WORDS", help="Comma list.")
@click.option("--threads", type=click.IntRange(1), default=min(2, os.cpu_count() or 1), metavar="N")
@click.option("--seconds", type=click.FloatRange(2), default=10, metavar="S", help="Per source.")
@click.option("--full", is_flag=True, help=f"{FULL_S} seconds per source.")
@click.option("--sizes", default="1280x720,1920x1080", metavar="WxH,WxH", help="Frame sizes in pixels.")
@click.option(
    "--viewers", type=click.IntRange(0), default=0, metavar="N", help="Also measure with N viewers of the page."
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Draw latency and memory over time (needs matplotlib).",
)
def main(model, labels, threads, seconds, full, sizes, viewers, plot):
    """Measure the live pipeline on this machine: a table, then one JSON line.

    \b
    Example:
      python bench/live.py --threads 2 --seconds 20
    """
    from zeroseg.bench.live_plot import check_plot, draw
    from zeroseg.commands.command import user_errors
    from zeroseg.live.memory import limit_arenas
    from zeroseg.segment.segmenter import Segmenter

    limit_arenas()  # as the commands do
    seconds = FULL_S if full else seconds
    with user_errors(), tempfile.TemporaryDirectory() as folder:
        if plot is not None:
            check_plot(plot)
        segmenter = Segmenter.load(model, threads=threads).set_labels([word.strip() for word in labels.split(",")])
        rows, audiences = [], []
        click.echo(
            f"{'source':<24}{'FPS':>7}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'dropped':>9}{'CPU':>7}"
            f"{'MiB':>8}{'MiB/min':>9}"
        )
        for size in sizes.split(","):
            clip = write_clip(Path(folder), size)
            for name, url in ((f"test {size}", f"test://?size={size}"), (f"video {size}", str(clip))):
                rows.append(measure(segmenter, name, url, seconds))
                show(rows[-1])
            if viewers:
                watched = watch(segmenter, f"test://?size={size}", seconds, viewers)
                audiences.append({"size": size, "viewers": viewers, **watched})
                click.echo(
                    f"  {size} with {viewers} viewers {watched['ratio']:.0%} of the frame rate without "
                    f"({watched['fps_with']:.1f} of {watched['fps_without']:.1f} a second), each gets "
                    f"{watched['pictures_per_viewer_s']:.1f} pictures a second; {watched['rss_mib']:.0f} MiB, "
                    f"{watched['growth_mib_per_min']:+.2f} a minute"
                )
        recovery_s = {}
        for kind in ("mjpeg", "rtsp"):
            recovery_s[kind] = round(recovery(segmenter, kind), 3)
            click.echo(f"{kind} stream killed and restored: first frame shown after {recovery_s[kind]:.2f} s")
    report = {
        "zeroseg": zeroseg.__version__,
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": rows[0]["load"],
        "threads": threads,
        "seconds": seconds,
        "recovery_s": recovery_s,
        "viewers": audiences,
        "rows": rows,
    }
    if plot is not None:
        draw(report, plot)
    click.echo(json.dumps(report))


def show(row: dict) -> None:
    """One line of the table."""
    click.echo(
        f"{row['source']:<24}{row['fps']:>7.1f}{row['p50_ms']:>9.0f}{row['p95_ms']:>9.0f}{row['p99_ms']:>9.0f}"
        f"{row['dropped']:>9}{row['cpu']:>7.0%}{row['rss_mib']:>8.0f}{row['growth_mib_per_min']:>9.2f}"
    )


def watch(segmenter, url: str, seconds: float, viewers: int, turn_s: float = 5.0) -> dict:
    """Frame rate with and without viewers of one running pipeline, in turns, so long with them as without: ratio is the
    median over pairs of turns, for a machine's speed drifts from minute to minute.
    """
    from zeroseg.live.server import Server
    from zeroseg.live.sources import open_source

    pipeline = _pipeline(open_source(url, pace=True, loop=True), segmenter)
    server = Server(segmenter, pipeline, "127.0.0.1", 0).start()
    pipeline.start()
    rates, pictures, watched_s, memory = {False: [], True: []}, 0, 0.0, []
    time.sleep(1.0)
    for _ in range(max(3, round(seconds / turn_s))):
        for seen in (False, True):
            watching = [_Viewer(server.port) for _ in range(viewers if seen else 0)]
            time.sleep(0.5)  # until those who came, or went, no longer count
            start_s, before = time.perf_counter(), pipeline.figures.frames
            shown = sum(viewer.pictures for viewer in watching)
            time.sleep(turn_s)
            elapsed_s = time.perf_counter() - start_s
            rates[seen].append((pipeline.figures.frames - before) / elapsed_s)
            pictures += sum(viewer.pictures for viewer in watching) - shown
            watched_s += elapsed_s * seen
            if seen:
                memory.append((time.perf_counter(), rss_mib()))
            for viewer in watching:
                viewer.close()
            time.sleep(0.5)
    server.stop()
    pipeline.stop()
    pipeline.join(30)
    pipeline.close()
    ratios = [on / off for off, on in zip(rates[False], rates[True], strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "fps_without": round(statistics.median(rates[False]), 2),
        "fps_with": round(statistics.median(rates[True]), 2),
        "turns": len(ratios),
        "turn_s": turn_s,
        "pictures_per_viewer_s": round(pictures / watched_s / viewers, 2),
        "rss_mib": round(memory[-1][1], 1),
        "growth_mib_per_min": round(60 * slope(memory[len(memory) // 3 :]), 3),
    }


def measure(segmenter, name: str, url: str, seconds: float) -> dict:
    """Run one source for so long; the first second is not counted. cpu: processor seconds per second, 1 = a core."""
    from zeroseg.live.server import Server
    from zeroseg.live.sources import open_source

    pipeline = _pipeline(open_source(url, pace=True, loop=True), segmenter)
    server = Server(segmenter, pipeline, "127.0.0.1", 0).start()
    # packed numbers: lists of objects would be a good part of the growth of memory that is to be measured
    at_s, latency, memory, stages = array("d"), array("f"), [], defaultdict(lambda: array("f"))
    shown = pipeline.figures.add

    def add(stages_ms, latency_ms):
        shown(stages_ms, latency_ms)
        at_s.append(time.perf_counter())
        latency.append(latency_ms)
        for stage, ms in stages_ms.items():
            stages[stage].append(ms)

    pipeline.figures.add = add
    load = os.getloadavg()[0]
    pipeline.start()
    time.sleep(1.0)
    start_s, start_cpu, start_dropped = time.perf_counter(), time.process_time(), pipeline.dropped
    while time.perf_counter() - start_s < seconds and not pipeline.finished.is_set():
        time.sleep(min(1.0, seconds / 10))
        memory.append((time.perf_counter() - start_s, rss_mib()))
    end_s, cpu_s = time.perf_counter(), time.process_time() - start_cpu
    dropped = pipeline.dropped - start_dropped
    server.stop()
    pipeline.stop()
    pipeline.join(30)
    pipeline.close()
    counted = sorted(ms for at, ms in zip(at_s, latency, strict=True) if at >= start_s)
    settled = memory[len(memory) // 3 :]
    row = {
        "source": name,
        "fps": round(len(counted) / (end_s - start_s), 2),
        "frames": len(counted),
        "dropped": dropped,
        "cpu": round(cpu_s / (end_s - start_s), 3),
        "rss_mib": round(memory[-1][1], 1),
        "growth_mib_per_min": round(60 * slope(settled), 3),
        "load": round(load, 2),
        "over_time": over_time(
            [(at - start_s, ms) for at, ms in zip(at_s, latency, strict=True)],
            memory,
            end_s - start_s,
            max(1, min(60, int(seconds))),
        ),
    }
    for percent in (50, 95, 99):
        row[f"p{percent}_ms"] = round(percentile(counted, percent), 1)
    row["stages_ms"] = {stage: round(statistics.median(ms), 2) for stage, ms in stages.items()}
    return row


def percentile(ordered: list[float], percent: int) -> float:
    """Of numbers in rising order, the one that so many percent of them are not above."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def over_time(
    latencies: list[tuple[float, float]], memory: list[tuple[float, float]], seconds: float, parts: int
) -> list[dict]:
    """So many equal parts of the time: where each ends in s, frames shown a second, their latency's p50 and p95 in ms
    (None if nothing was shown) and the memory at its end in MiB. latencies and memory: (s since the start, value).
    """
    width, result = seconds / parts, []
    for i in range(parts):
        own = sorted(ms for at, ms in latencies if i * width <= at < (i + 1) * width)
        held = [mib for at, mib in memory if at <= (i + 1) * width]
        result.append(
            {
                "s": round((i + 1) * width, 1),
                "fps": round(len(own) / width, 1),
                "p50_ms": round(percentile(own, 50), 1) if own else None,
                "p95_ms": round(percentile(own, 95), 1) if own else None,
                "mib": round((held or [memory[0][1]])[-1], 1),
            }
        )
    return result


def _pipeline(source, segmenter):
    from zeroseg.live.pipeline import Pipeline

    return Pipeline(source, segmenter, smoothing_s=0.3)


class _Viewer:
    """A browser's part: takes the live picture and throws it away."""

    def __init__(self, port: int):
        self.pictures = 0
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.sendall(b"GET /live.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while data := self._socket.recv(1 << 18):
                self.pictures += data.count(b"--frame")
        except OSError:
            pass  # closed

    def close(self) -> None:
        self._socket.close()


def recovery(segmenter, kind: str, away_s: float = 3.0) -> float:
    """Seconds from the return of an MJPEG or RTSP server to the first frame shown from it."""
    from zeroseg.bench.loopback import MjpegServer
    from zeroseg.bench.loopback_rtsp import RtspServer
    from zeroseg.live.board import Board
    from zeroseg.live.pattern import TestPattern
    from zeroseg.live.sources import open_source

    camera = {"mjpeg": MjpegServer, "rtsp": RtspServer}[kind](TestPattern("test://?size=640x360").picture, rate=15)
    pipeline = _pipeline(open_source(camera.url), segmenter)
    pipeline.sinks.append(Board())
    pipeline.start()
    while not pipeline.figures.frames:
        time.sleep(0.01)
    time.sleep(1.0)
    camera.kill()
    time.sleep(away_s)
    before = pipeline.figures.frames
    camera.restore()
    start_s = time.perf_counter()
    while pipeline.figures.frames == before:
        time.sleep(0.002)
        if time.perf_counter() - start_s > 60:
            raise SystemExit("the stream was not seen again within a minute")
    recovered_s = time.perf_counter() - start_s
    pipeline.stop()
    pipeline.join(10)
    pipeline.close()
    camera.kill()
    return recovered_s


def write_clip(folder: Path, size: str, frames: int = 150) -> Path:
    """The test pattern as an H.264 file at 30 frames per second."""
    import av

    from zeroseg.live.pattern import TestPattern

    pattern = TestPattern(f"test://?size={size}")
    path = folder / f"{size}.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = pattern.width, pattern.height, "yuv420p"
        for i in range(frames):
            for packet in stream.encode(av.VideoFrame.from_ndarray(pattern.picture(i), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def rss_mib() -> float:
    """Memory of this process now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def slope(points: list[tuple[float, float]]) -> float:
    """Least-squares slope of (x, y)."""
    if len(points) < 2:
        return 0.0
    mean_x, mean_y = (statistics.fmean(axis) for axis in zip(*points))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


if __name__ == "__main__":
    main()
