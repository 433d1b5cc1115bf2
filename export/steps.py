"""The steps of an export on the terminal: the one under way with its time, and for countable ones the time left."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

TICK_S = 1.0  # between updates of the time of a step


class Steps:
    """Shows the steps of an export, and takes lines: steps("...").

    report gets every line, and of every finished step the name and the seconds; None shows nothing at all. On a
    terminal the step under way is shown on stderr.
    """

    def __init__(self, report: Callable[[str], None] | None = None):
        self._report = report

    @classmethod
    def of(cls, report: "Callable[[str], None] | Steps | None") -> "Steps":
        return report if isinstance(report, Steps) else cls(report)

    @property
    def shown(self) -> bool:
        return self._report is not None

    def __call__(self, line: str) -> None:
        if self._report is not None:
            with tqdm.external_write_mode():  # a line, not the rest of one
                self._report(line)

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Callable[[], object]]:
        """Show a step while the block runs. Yields what the block calls after each of `total` units of it."""
        began = time.perf_counter()
        bar = tqdm(
            desc=name,
            total=total,
            unit=unit,
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
            disable=None if self.shown else True,
            bar_format=None if total else "{desc}: {elapsed}",
        )
        over = threading.Event()
        ticking = threading.Thread(target=_tick, args=(bar, over), daemon=True)
        if not bar.disable:
            ticking.start()
        try:
            yield bar.update
        finally:
            over.set()
            if ticking.ident is not None:
                ticking.join()
            bar.close()
        self(f"{name}: {time.perf_counter() - began:.1f} s")


def _tick(bar: tqdm, over: threading.Event) -> None:
    while not over.wait(TICK_S):
        bar.refresh()
