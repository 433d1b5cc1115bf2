"""Do the parts of a job with several processes on one machine, each with its own model.

When a process dies (out of memory, a decoder's crash), a new process repeats its part. A photo at which two processes
died is marked as bad. Only complete parts count, so the parent may be stopped at any moment.
"""

import multiprocessing
import signal
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

from zeroseg.errors import ZerosegError

DEATHS_OF_A_PHOTO = 2


class _Worker:
    """A process, the pipe to it, its present part, and the number of photos of the part that are done."""

    def __init__(self, context, make: Callable):
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, make), daemon=True)
        with _ctrl_c_ignored():
            self.process.start()
        theirs.close()
        self.part, self.photos, self.ready = None, 0, False

    def give(self, part: Hashable, skip: dict[int, str]) -> None:
        self.part, self.photos = part, 0
        try:
            self.pipe.send((part, skip))
        except OSError:  # it has died; the closed pipe will report this, and the part is tried again
            pass


def work_in_processes(
    make: Callable,
    parts: Iterator[Hashable],
    processes: int,
    on_photos: Callable[[int], None],
    say: Callable[[str], None] = lambda line: None,
    on_part: Callable = lambda part, result: None,
) -> None:
    """Do all parts of a job; returns when all are done.

    make       called in each process; returns an object whose part(part, skip, on_photo) does one part, like
               zeroseg.annotate.job.Labeller. make must be picklable.
    parts      numbers, or anything that can be pickled; str(part) names a part in messages.
    on_photos  called with the number of photos that are done; negative if a part is tried again.
    say        called with a line about each process that died.
    on_part    called with a part and what part() returned, once for each part, in this process.
    Raises ZerosegError if the model cannot be loaded or the results cannot be written.
    """
    context = multiprocessing.get_context("spawn")  # a fork would share the threads of ONNX Runtime
    again: list[Hashable] = []
    deaths: dict[tuple[Hashable, int], int] = {}
    skip: dict[Hashable, dict[int, str]] = {}
    workers: dict = {}

    def start() -> None:
        worker = _Worker(context, make)
        workers[worker.pipe] = worker

    def next_part() -> Hashable | None:
        return again.pop() if again else next(parts, None)

    def hand_out(worker: _Worker) -> None:
        part = next_part()
        if part is None:
            worker.part = None
        else:
            worker.give(part, skip.get(part, {}))

    def died(worker: _Worker) -> None:
        worker.process.join()
        how = _cause(worker.process.exitcode)
        if not worker.ready:
            raise ZerosegError(f"a process {how} while it loaded the model; try fewer --processes")
        del workers[worker.pipe]
        if worker.part is None:
            return
        place = (worker.part, worker.photos)
        deaths[place] = deaths.get(place, 0) + 1
        say(f"a process {how} at photo {worker.photos + 1} of part {worker.part}; the part is tried again")
        if deaths[place] >= DEATHS_OF_A_PHOTO:
            skip.setdefault(worker.part, {})[worker.photos] = f"the process that read it {how}; this happened twice"
        on_photos(-worker.photos)
        again.append(worker.part)
        start()

    try:
        for _ in range(processes):
            start()
        while any(worker.part is not None or not worker.ready for worker in workers.values()):
            for pipe in wait(list(workers)):
                worker = workers[pipe]
                try:
                    kind, value = pipe.recv()
                except (EOFError, OSError):
                    died(worker)
                    continue
                if kind == "error":
                    raise ZerosegError(value)
                if kind == "photo":
                    worker.photos += 1
                    on_photos(1)
                    continue
                if kind == "done":
                    on_part(worker.part, value)
                worker.ready = True
                hand_out(worker)
    finally:
        for worker in workers.values():
            worker.pipe.close()
            worker.process.terminate()
        for worker in workers.values():
            worker.process.join()


def _work(pipe, make: Callable) -> None:
    """A process: load the model, then do the parts that come through the pipe until it is closed."""
    try:
        worker = make()
        pipe.send(("ready", None))
        while True:
            part, skip = pipe.recv()
            pipe.send(("done", worker.part(part, skip, lambda: pipe.send(("photo", None)))))
    except EOFError:
        pass
    except (ZerosegError, ValueError, OSError) as error:
        try:
            pipe.send(("error", str(error)))
        except OSError:  # the parent has gone
            pass


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """A process that is started in this block ignores Ctrl-C. The parent gets it and ends the process."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread; only that gets signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _cause(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"was killed ({name}{', out of memory?' if name == 'SIGKILL' else ''})"
    return f"ended (exit code {exitcode})"
