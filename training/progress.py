"""Progress bars with the remaining time: live in a terminal, occasional lines in a log file."""

import sys

from tqdm import tqdm

LOG_EVERY_S = 30


def progress_bar(label: str, unit: str, total: int, done: int, shown: bool = True) -> tqdm:
    """A bar on stderr over `total` units, `done` of which are finished; update() adds one."""
    pause_s = 0.2 if sys.stderr.isatty() else LOG_EVERY_S
    return tqdm(
        desc=label,
        unit=unit,
        total=total,
        initial=done,
        disable=not shown,
        smoothing=0.05,
        dynamic_ncols=True,
        mininterval=pause_s,
        maxinterval=pause_s,
    )
