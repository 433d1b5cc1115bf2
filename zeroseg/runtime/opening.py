"""From a model file to a network that is ready to run."""

from importlib import import_module

from zeroseg.artifact import Artifact
from zeroseg.errors import ZerosegError
from zeroseg.kernels._threads import available_threads, set_threads
from zeroseg.runtime.backends import BACKENDS
from zeroseg.runtime.base import Runner


def open_runner(artifact: Artifact, threads: int | None = None) -> Runner:
    """The runner of the artifact's back end. UnavailableError, with the reason and an alternative, if it cannot run
    here.

    threads  CPU threads for the network and, process-wide, for the kernels around it; None for all.
    """
    if threads is not None and threads < 1:
        raise ZerosegError(f"threads: expected at least 1, got {threads}")
    set_threads(threads)
    threads = threads or available_threads()
    module, name = BACKENDS[artifact.backend].runner.split(":")
    runner, sidecar = getattr(import_module(f"zeroseg.runtime.{module}"), name)(artifact, threads), artifact.sidecar
    runner.multiple = sidecar.side_multiple
    return runner
