"""Turn flickering masks into steady states of the labels, and report the states that changed. No MQTT here."""

from collections.abc import Sequence
from dataclasses import dataclass

HOLD_S = 2.0
LEAST_AREA = 0.001
AREA_STEP, SCORE_STEP = 0.01, 0.02  # smaller changes are not reported


@dataclass(frozen=True)
class State:
    """A label's state. area: its share of the picture in [0, 1]; score in [-1, 1], None if it is not present."""

    present: bool = False
    area: float = 0.0
    score: float | None = None


class Presence:
    """The labels' states over time.

    A label becomes present when its area reaches least_area, and absent when its area has been smaller for hold_s.
    While it is present, it is reported again if its area changes by 0.01 of the picture or its score by 0.02, at most
    once per hold_s.
    """

    def __init__(self, hold_s: float = HOLD_S, least_area: float = LEAST_AREA):
        """hold_s: seconds; least_area: share of the picture in [0, 1]."""
        self._hold_s, self._least_area = hold_s, least_area
        self.states: dict[str, State] = {}
        self._seen_s: dict[str, float] = {}
        self._told_s: dict[str, float] = {}

    def update(self, now_s: float, labels: Sequence[str], found: dict[str, tuple[float, float]]) -> dict[str, State]:
        """Add the result of one picture; return the states to report.

        now_s: time in seconds; labels: the label list; found: label -> (area in [0, 1], score in [-1, 1]). A new label
        is always reported. A label that is no longer in the list is forgotten.
        """
        for gone in self.states.keys() - set(labels):
            for known in (self.states, self._seen_s, self._told_s):
                known.pop(gone, None)
        news = {}
        for label in labels:
            before = self.states.get(label)
            area, score = found.get(label, (0.0, 0.0))
            if area > 0 and area >= self._least_area:
                self._seen_s[label] = now_s
                state = State(True, area, score)
            elif before is not None and before.present and now_s - self._seen_s[label] < self._hold_s:
                continue
            else:
                state = State()
            if before is None or state.present != before.present or self._moved(label, before, state, now_s):
                news[label] = self.states[label] = state
                self._told_s[label] = now_s
        return news

    def _moved(self, label: str, before: State, state: State, now_s: float) -> bool:
        if not state.present or now_s - self._told_s[label] < self._hold_s:
            return False
        return abs(state.area - before.area) >= AREA_STEP or abs(state.score - before.score) >= SCORE_STEP
