"""A progress bar with the remaining time for TensorRT's builds, which take minutes without output.

TensorRT reports nested phases, each with a number of steps. The share done of a phase is its finished steps plus, for
the step under way, the shares of the phases inside it; the bar shows the outermost phase.
"""

import signal
import threading
from dataclasses import dataclass

from tqdm import tqdm

PARTS = 1000


@dataclass
class Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """The phases that are under way. Calls may come from several threads."""

    def __init__(self):
        self._phases: dict[str, Phase] = {}
        self._lock = threading.Lock()
        self._share = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[name] = Phase(parent, max(1, steps))

    def step(self, name: str, step: int) -> None:
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1  # steps are counted from 0

    def finish(self, name: str) -> None:
        with self._lock:
            phase = self._phases.pop(name, None)
            if phase is not None and phase.parent not in self._phases:
                self._share = 1.0

    def share(self) -> float:
        """How much of the outermost phase is done, in [0, 1]; never less than it was."""
        with self._lock:
            roots = [name for name, phase in self._phases.items() if phase.parent not in self._phases]
            if roots:
                self._share = max(self._share, self._of(roots[0]))
            return self._share

    def _of(self, name: str) -> float:
        phase = self._phases[name]
        inner = [self._of(other) for other, child in self._phases.items() if child.parent == name]
        under_way = sum(inner) / len(inner) if inner else 0.0
        return min(1.0, (phase.done + under_way) / phase.steps)


def make_monitor(trt, title: str):
    """A trt.IProgressMonitor with a bar on the terminal; close() it after the build.

    No exception can pass through TensorRT. So Ctrl-C only asks for an end while the build runs, the next finished step
    ends it, and close() raises what came meanwhile.
    """

    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)  # pybind11 insists
            self.phases = Phases()
            self.problem: BaseException | None = None
            self._bar = tqdm(
                total=PARTS,
                desc=f"building {title}",
                leave=False,
                disable=None,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}",
            )
            # only the main thread may set handlers, and a process that ignores Ctrl-C goes on doing so
            self._asks = (
                threading.current_thread() is threading.main_thread()
                and signal.getsignal(signal.SIGINT) is signal.default_int_handler
            )
            if self._asks:
                signal.signal(signal.SIGINT, self._interrupt)

        def _interrupt(self, number, frame):
            self.problem = KeyboardInterrupt()

        def _guarded(self, work, *arguments):
            try:
                work(*arguments)
                self._bar.update(int(PARTS * self.phases.share()) - self._bar.n)
            except BaseException as error:
                self.problem = error

        def phase_start(self, phase_name, parent_phase, num_steps):
            self._guarded(self.phases.start, phase_name, parent_phase, num_steps)
            self._guarded(self._bar.set_postfix_str, phase_name, False)

        def step_complete(self, phase_name, step):
            self._guarded(self.phases.step, phase_name, step)
            return self.problem is None

        def phase_finish(self, phase_name):
            self._guarded(self.phases.finish, phase_name)

        def close(self):
            if self._asks:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            self._bar.close()
            if self.problem is not None:
                raise self.problem

    return Monitor()
