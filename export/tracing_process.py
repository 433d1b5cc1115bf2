"""Tracing in a process of its own: it takes one core, while this process runs the gate's photos on the other."""

import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from zeroseg.dense.spec import is_dense_name
from zeroseg.kernels._threads import available_threads


@contextlib.contextmanager
def traced(model: Path | str, path: Path) -> Iterator[Callable[[], bool] | None]:
    """Begin to write the graph of a model, as export_file takes it, to path. Yields a function that waits for it. The
    graph has no description and is not checked.

    That gives False if the process failed: whoever traces the network here then gets the error too. Yields None without
    a process: on one core, and for an open_clip model. The process ends with the block, whatever ends that.
    """
    here = not isinstance(model, (str, Path)) or is_dense_name(str(model))  # its text tower would run twice
    if here or available_threads() < 2 or not sys.executable:
        yield None
        return
    # modules are not looked for in the current folder, as in a command
    program = f"import sys; sys.path = [*filter(None, sys.path)]; from {__name__} import main; main(*sys.argv[1:])"
    nothing = subprocess.DEVNULL
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(model), str(path)], stdin=nothing, stdout=nothing, stderr=nothing
        )
    except OSError:
        yield None
        return
    try:
        yield lambda: process.wait() == 0
    finally:
        process.kill()
        process.wait()


def main(model: str, path: str) -> None:
    gc.disable()  # the process is short: imports and tracing make millions of objects, which nothing frees
    from zeroseg.export.to_onnx import traced_graph
    from zeroseg.model import load_model

    Path(path).write_bytes(traced_graph(load_model(model)[0]).SerializeToString())
    os._exit(0)  # to free them takes seconds
