"""Select the comparisons that fit an engine's profile, which has limits that the model does not have."""

from collections.abc import Callable

from zeroseg.errors import ZerosegError
from zeroseg.export.parity import Case
from zeroseg.runtime.base import IMAGE
from zeroseg.runtime.trt_engine import EngineFile


def fits(case: Case, engine: EngineFile) -> bool:
    """Whether the engine takes the case's images."""
    least, _, greatest = engine.manifest.profile[IMAGE]
    return all(low <= side <= high for low, side, high in zip(least, case.image.shape, greatest, strict=True))


def fitting(cases: list[Case], engine: EngineFile, report: Callable[[str], None]) -> list[Case]:
    """The cases that the engine takes; report is told how many it does not. ZerosegError when it takes none."""
    taken = [case for case in cases if fits(case, engine)]
    if len(taken) == len(cases) and cases:
        return taken
    limits = " and ".join(
        f"{name} from {'x'.join(map(str, least))} to {'x'.join(map(str, greatest))}"
        for name, (least, _, greatest) in engine.manifest.profile.items()
    )
    if not taken:
        raise ZerosegError(
            f"{engine.path}: cannot be compared: it takes none of {len(cases)} comparisons, only {limits}"
        )
    report(f"{len(cases) - len(taken)} of {len(cases)} comparisons left out: the engine takes {limits}")
    return taken
