"""zeroseg-serve --engine triton: the page and the REST interface, with the Triton Inference Server behind them."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from zeroseg.artifact import read_artifact
from zeroseg.commands.ending import asked_to_end, wait_for_end
from zeroseg.commands.infer_run import approximate_words, parse_labels
from zeroseg.commands.live_run import LiveOptions
from zeroseg.errors import ZerosegError
from zeroseg.kernels._threads import available_threads
from zeroseg.live.guard import LOCAL
from zeroseg.segment.segmenter import Segmenter
from zeroseg.serving.client import ServedRunner
from zeroseg.serving.repository import Batching, write_repository
from zeroseg.serving.supervisor import InferenceServer

DEFAULT = Batching()


@dataclass
class Service:
    """An inference server with its repository; segmenter asks it. A context manager."""

    server: InferenceServer
    segmenter: Segmenter
    batching: Batching
    _folder: tempfile.TemporaryDirectory

    def __enter__(self):
        try:
            self.server.start()
        except BaseException:  # Ctrl-C among them: the child and its files go too
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.server.stop()
        self._folder.cleanup()


def open_service(
    model=None,
    backend: str = "auto",
    threads: int | None = None,
    batching: Batching = DEFAULT,
    host: str = "127.0.0.1",
    http_port: int = 0,
    grpc_port: int = 0,
    say=lambda line: None,
) -> Service:
    """Everything laid out and checked, nothing started yet. threads are shared by batching.instances networks."""
    artifact = read_artifact(model, backend)
    if artifact.sidecar.dense is not None:
        raise ZerosegError(
            f"--engine triton serves only models with segments, and {artifact.sidecar.name} has none; use --engine own"
        )
    each = max(1, (threads or available_threads()) // batching.instances)
    folder = tempfile.TemporaryDirectory(prefix="zeroseg-models-")
    try:
        network = {"model_file": str(artifact.path.resolve()), "backend": artifact.backend, "threads": str(each)}
        write_repository(Path(folder.name), artifact.sidecar, batching, network)
        server = InferenceServer(Path(folder.name), host, http_port, grpc_port, say)
    except BaseException:
        folder.cleanup()
        raise
    runner = ServedRunner(server.client, batching.max_batch)
    return Service(server, Segmenter(runner, artifact.sidecar), batching, folder)


def photos_at_once(batching: Batching) -> int:
    """Photos that keep all instances in full batches, while others are decoded."""
    return min(64, 2 * batching.instances * batching.max_batch)


def serve_triton(
    options: LiveOptions,
    instances: int,
    max_batch: int,
    window_ms: float,
    triton_host: str,
    triton_http: int,
    triton_grpc: int,
) -> None:
    """Serve until Ctrl-C."""
    from zeroseg.live.server import Server, check_exposure

    check_exposure(options.host, options.token, options.insecure)
    if triton_host not in LOCAL and not options.insecure:
        raise ZerosegError(
            f"--triton-host {triton_host} allows access from the network, and Triton has no token: give "
            "--insecure if anybody there may use it"
        )
    batching = Batching(instances, max_batch, window_ms)
    labels = parse_labels(options.labels)
    with open_service(
        options.model,
        options.backend,
        options.threads,
        batching,
        triton_host,
        triton_http,
        triton_grpc,
        say=lambda line: click.echo(line, err=True),
    ) as service:
        segmenter = service.segmenter.set_labels(labels, text=options.text)
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
                at_once=photos_at_once(batching),
                waiting=2 * photos_at_once(batching),
                problem=segmenter.runner.problem,
                threshold=options.threshold,
                alpha=options.alpha,
            ).start()
            try:
                click.echo(
                    f"triton: http://{triton_host}:{service.server.http_port}, gRPC {triton_host}:"
                    f"{service.server.grpc_port}, model zeroseg"
                )
                click.echo(f"page: {server.address}  (Ctrl-C ends)")
                wait_for_end(asked)
            finally:
                server.stop()
