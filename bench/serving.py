"""Measure many clients at once: the one-process server and the Triton Inference Server, without and with batching.

Every contender is a separate `zeroseg-serve`. Closed-loop clients on the same machine send POST /segment: each sends
its next photo when it has the answer to the last one. A refused client (503) tries again after the time that the server
names. Latency is the client's waiting time, refusals included. Contenders take turns, and throughput is compared within
a turn, because a machine's speed drifts. Every answer is compared with the masks of the first server; a difference
fails the run.

    python bench/serving.py                          1, 8 and 32 clients
    python bench/serving.py --clients 8 --seconds 30
"""

import http.client
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
try:
    import zeroseg
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(ROOT))
    import zeroseg

PHOTOS = ROOT / "export" / "photos"
LABELS = "cat,dog,person,ball,grass,sky"
SERVE = "from zeroseg.commands.serve import main; main()"
CONTENDERS = {
    "one process": ["--engine", "own"],
    "triton, batch of 1": ["--engine", "triton", "--max-batch", "1"],
    "triton, batch of up to 8": ["--engine", "triton", "--max-batch", "8"],
}
START_S = 120.0
END = b"\r\n--photo--\r\n"  # of a request's body
AGREEMENT = 0.995  # of pixels: photos that share a run are summed in another order
_numbers = itertools.count()


class Turn(NamedTuple):
    """latencies_ms of the photos answered within seconds, refused: times that a client was told to come back."""

    latencies_ms: list[float]
    seconds: float
    refused: int


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--clients", default="1,8,32", metavar="N,N", help="Clients at once.")
@click.option("--seconds", type=click.FloatRange(0.5), default=10, metavar="S", help="Per turn.")
@click.option("--rounds", type=click.IntRange(1), default=5, metavar="N", help="Number of turns of each contender.")
@click.option("--labels", default=LABELS, metavar="WORDS", help="Comma list.")
@click.option(
    "--threads", type=click.IntRange(1), default=min(2, os.cpu_count() or 1), metavar="N", help="Of each server."
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Draw throughput and latency (needs matplotlib).",
)
def main(clients, seconds, rounds, labels, threads, plot):
    """Measure serving under load on this machine: a table, then one JSON line.

    \b
    Example:
      python bench/serving.py --clients 1,8 --seconds 5 --rounds 3
    """
    from zeroseg.commands.command import user_errors

    with user_errors():
        crowds = [int(number) for number in clients.split(",") if number.strip().isdecimal()]
        if not crowds or len(crowds) != clients.count(",") + 1 or min(crowds) < 1:
            raise click.UsageError(f"--clients: expected whole numbers of at least 1, like 1,8,32, got {clients}")
        names = list(CONTENDERS)
        if find_spec("pytriton") is None:
            click.echo("without triton: pip install 'zeroseg[triton]' brings it", err=True)
            names = names[:1]
        bodies = [multipart(path.read_bytes(), labels) for path in sorted(PHOTOS.glob("*.jpg"))]
        servers = []
        try:
            for name in names:
                servers.append(Server(name, labels, threads))
            expected = [label_map(servers[0].port, body) for body in bodies]
            rows = compare(servers, bodies, expected, crowds, seconds, rounds)
        finally:
            for server in servers:
                server.stop()
    for row in rows:
        show(row)
    if plot is not None:
        draw_plot(rows, plot)
    click.echo(
        json.dumps(
            {
                "zeroseg": zeroseg.__version__,
                "machine": platform.machine(),
                "cores": len(os.sched_getaffinity(0)),
                "python": platform.python_version(),
                "threads": threads,
                "labels": labels,
                "photos": len(bodies),
                "turn_s": seconds,
                "rounds": rounds,
                "rows": rows,
            }
        )
    )


class Server:
    """One zeroseg-serve in a process of its own, until stop()."""

    def __init__(self, name: str, labels: str, threads: int):
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by stop()
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                SERVE,
                "--labels",
                labels,
                "--threads",
                str(threads),
                "--port",
                "0",
                "--triton-http",
                "0",
                "--triton-grpc",
                "0",
                *CONTENDERS[name],
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
        self.port = self._wait()

    def _wait(self) -> int:
        end_s = time.monotonic() + START_S
        while True:
            self._log.seek(0)
            said = self._log.read()
            address = re.search(r"^page: http://[^:]+:(\d+)", said, re.MULTILINE)
            if address:
                return int(address[1])
            if self._process.poll() is not None or time.monotonic() > end_s:
                self.stop()
                raise click.ClickException(f"{self.name} did not start: {said.strip()[-300:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it and what it started."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def multipart(photo: bytes, labels: str) -> bytes:
    """The body of POST /segment that asks for a palette PNG."""
    fields = {"labels": labels, "format": "labels"}
    parts = [
        f'--photo\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    return b"".join(
        [
            *parts,
            b'--photo\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n",
            photo,
            END,
        ]
    )


def ask(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes, float]:
    """Status, answer, and the seconds after which a refused client may come back.

    Each time the photo has other bytes behind its end: the server keeps the segments of photos that it has just seen.
    """
    body = body.removesuffix(END) + next(_numbers).to_bytes(8, "big") + END
    connection.request("POST", "/segment", body, {"Content-Type": "multipart/form-data; boundary=photo"})
    response = connection.getresponse()
    return response.status, response.read(), float(response.headers.get("Retry-After", 1))


def label_map(port: int, body: bytes) -> np.ndarray:
    """(H, W) uint8 of a server that nobody else asks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        status, answer, _ = ask(connection, body)
    finally:
        connection.close()
    if status != 200:
        raise click.ClickException(f"expected a mask, got {status}: {answer[:200].decode(errors='replace')}")
    return np.asarray(Image.open(BytesIO(answer)))


def load(server: Server, bodies: list[bytes], expected: list[np.ndarray], clients: int, seconds: float) -> Turn:
    """One turn: so many closed-loop clients for so long, after a tenth of it (at least half a second) as a warm-up."""
    warm_s = max(0.5, seconds / 10)
    start_s = time.perf_counter() + warm_s
    end_s = start_s + seconds
    latencies_ms, refusals, wrong = [], [], []
    kept: list[list[tuple[int, bytes]]] = []

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        turn = number
        answers = []
        try:
            while time.perf_counter() < end_s:
                asked_s = time.perf_counter()
                status, answer, pause_s = ask(connection, bodies[turn % len(bodies)])
                while status == 503:
                    refusals.append(time.perf_counter())
                    time.sleep(pause_s)
                    if time.perf_counter() > end_s:
                        return
                    status, answer, pause_s = ask(connection, bodies[turn % len(bodies)])
                now_s = time.perf_counter()
                if status != 200:
                    wrong.append(f"{status}: {answer[:200].decode(errors='replace')}")
                    return
                answers.append((turn % len(bodies), answer))
                if start_s <= now_s <= end_s:
                    latencies_ms.append(1000 * (now_s - asked_s))
                turn += 1
        except OSError as error:
            wrong.append(f"connection lost ({error})")
        finally:
            connection.close()
            kept.append(answers)

    threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wrong += differing(kept, expected)  # after the turn: reading PNGs takes the processor that the server is to have
    if wrong:
        raise click.ClickException(
            f"{server.name}, {clients} clients: {len(wrong)} wrong answers, the first: {wrong[0]}"
        )
    if not latencies_ms:
        raise click.ClickException(
            f"{server.name}, {clients} clients: no answer within {seconds:g} s; give more --seconds"
        )
    return Turn(latencies_ms, seconds, sum(start_s <= at_s <= end_s for at_s in refusals))


def differing(kept: list[list[tuple[int, bytes]]], expected: list[np.ndarray]) -> list[str]:
    """A line for every answer that is not the mask expected of its photo; equal answers are read once."""
    lines = []
    for index, answer in {pair for answers in kept for pair in answers}:
        mask = np.asarray(Image.open(BytesIO(answer)))
        same = (mask == expected[index]).mean() if mask.shape == expected[index].shape else 0.0
        if same < AGREEMENT:
            lines.append(f"photo {index} agrees in {same:.2%} of its pixels, expected {AGREEMENT:.1%}")
    return lines


def compare(servers: list[Server], bodies, expected, crowds: list[int], seconds: float, rounds: int) -> list[dict]:
    """A row for every contender and number of clients."""
    from tqdm import tqdm

    turns: dict[tuple[str, int], list[Turn]] = defaultdict(list)
    with tqdm(total=rounds * len(crowds) * len(servers), unit="turn", disable=not sys.stderr.isatty()) as bar:
        for _ in range(rounds):
            for clients in crowds:
                for server in servers:
                    turns[server.name, clients].append(load(server, bodies, expected, clients, seconds))
                    bar.update()
    rows = []
    for clients in crowds:
        base = [len(turn.latencies_ms) / turn.seconds for turn in turns[servers[0].name, clients]]
        for server in servers:
            mine = turns[server.name, clients]
            rates = [len(turn.latencies_ms) / turn.seconds for turn in mine]
            ratios = [rate / other for rate, other in zip(rates, base, strict=True)]
            pooled = np.concatenate([turn.latencies_ms for turn in mine])
            p50, p95, p99 = np.percentile(pooled, (50, 95, 99))
            rows.append(
                {
                    "server": server.name,
                    "clients": clients,
                    "answers": len(pooled),
                    "photos_per_s": round(statistics.median(rates), 2),
                    "ratio": round(statistics.median(ratios), 3),
                    "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
                    "p50_ms": round(p50, 1),
                    "p95_ms": round(p95, 1),
                    "p99_ms": round(p99, 1),
                    "refused": sum(turn.refused for turn in mine),
                }
            )
    click.echo(
        f"{'server':<26}{'clients':>8}{'photos/s':>10}{'ratio':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'refused':>9}"
    )
    return rows


def show(row: dict) -> None:
    """One line of the table."""
    click.echo(
        f"{row['server']:<26}{row['clients']:>8}{row['photos_per_s']:>10.1f}{row['ratio']:>8.2f}"
        f"{row['p50_ms']:>9.0f}{row['p95_ms']:>9.0f}{row['p99_ms']:>9.0f}{row['refused']:>9}"
    )


def draw_plot(rows: list[dict], path: Path) -> None:
    """Bars of throughput and of latency (p50 filled, whisker to p99) by number of clients."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["server"] for row in rows))
    crowds = list(dict.fromkeys(row["clients"] for row in rows))
    figure = Figure((8, 3.4), layout="constrained")
    speed, wait = figure.subplots(1, 2)
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        mine = [row for row in rows if row["server"] == name]
        at = [crowds.index(row["clients"]) + (place - (len(names) - 1) / 2) * width for row in mine]
        speed.bar(at, [row["photos_per_s"] for row in mine], width, label=name)
        p50 = np.array([row["p50_ms"] for row in mine])
        above = np.array([row["p99_ms"] for row in mine]) - p50
        wait.bar(at, p50, width, yerr=[np.zeros_like(above), above], capsize=3, label=name)
    for axes, what in ((speed, "photos per second"), (wait, "latency, ms: p50, to p99")):
        axes.set_xticks(range(len(crowds)), crowds)
        axes.set_xlabel("clients")
        axes.set_ylabel(what)
    wait.set_yscale("log")
    figure.legend(*speed.get_legend_handles_labels(), loc="outside upper center", ncols=len(names), fontsize="small")
    figure.savefig(path)


if __name__ == "__main__":
    main()
