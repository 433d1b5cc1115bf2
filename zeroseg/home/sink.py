"""Publish a live picture's labels to home automation: changed states and snapshots. Carry out its commands."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from zeroseg.errors import ZerosegError
from zeroseg.home import discovery
from zeroseg.home.address import Address, check_topic
from zeroseg.home.broker import Broker
from zeroseg.home.presence import HOLD_S, LEAST_AREA, Presence, State
from zeroseg.live.picture import draw_frame, to_jpeg
from zeroseg.live.pipeline import Pipeline
from zeroseg.live.sinks import Output, Sink
from zeroseg.segment.segmenter import Segmenter
from zeroseg.words import split_words

LABELS_MAX = 200
SNAPSHOTS = ("request", "change", "off")
_ON, _OFF = ("on", "true", "1"), ("off", "false", "0")


@dataclass(frozen=True)
class HomeOptions:
    """address: the broker; topic: the base topic; hold_s, least_area: as for Presence.

    snapshot: when to send pictures with masks, one of SNAPSHOTS; discovery: whether to announce the entities to Home
    Assistant; text: the text encoder, as for Segmenter.label_pack.
    """

    address: Address
    topic: str
    hold_s: float = HOLD_S
    least_area: float = LEAST_AREA
    snapshot: str = "request"
    discovery: bool = True
    text: str = "auto"


class HomeSink(Sink):
    """Publishes a pipeline's frames. write() never waits for the broker, and only snapshots are drawn."""

    takes_repeats = True

    def __init__(
        self,
        segmenter: Segmenter,
        pipeline: Pipeline,
        options: HomeOptions,
        say: Callable[[str], None] = lambda line: None,
    ):
        """Raises ZerosegError for a bad topic or number of labels, UnavailableError without paho-mqtt."""
        self._topic = check_topic(options.topic)
        self._segmenter, self._pipeline, self._options = segmenter, pipeline, options
        _check_count(pipeline.settings.pack.names)
        self._presence = Presence(options.hold_s, options.least_area)
        self._labels: list[str] = []
        self._newest: Output | None = None
        self._broker = Broker(
            options.address,
            f"{self._topic}/status",
            [f"{self._topic}/set/{name}" for name in discovery.COMMANDS],
            say,
            self._command,
            self._look,
        )

    def start(self) -> "HomeSink":
        self._broker.keep(f"{self._topic}/status", b"online")
        self._broker.keep(f"{self._topic}/problem", b"")
        if self._options.discovery:
            self._keep_all(discovery.device_entities(self._topic))
        self._look()
        self._broker.start()
        return self

    def write(self, output: Output) -> None:
        self._newest = output
        result = output.result
        if result.labels != self._labels:
            self._new_labels(result.labels)
        found = {region.label: (region.area, region.score) for region in result.found}
        before = {label: state.present for label, state in self._presence.states.items()}
        news = self._presence.update(time.monotonic(), result.labels, found)
        for label, state in news.items():
            self._broker.keep(discovery.label_topic(self._topic, label), discovery.as_json(_document(label, state)))
        if self._options.snapshot == "change" and any(
            state.present != before.get(label, False) for label, state in news.items()
        ):
            self._broker.do(f"{self._topic}/set/snapshot")

    def close(self) -> list[str]:
        self._broker.keep(f"{self._topic}/status", b"offline")
        self._broker.close()
        return []

    def _new_labels(self, labels: list[str]) -> None:
        for label in self._labels:
            if label not in labels:
                for topic in discovery.label_entities(self._topic, label) if self._options.discovery else ():
                    self._broker.forget(topic)
                self._broker.forget(discovery.label_topic(self._topic, label))
        for label in labels if self._options.discovery else ():
            self._keep_all(discovery.label_entities(self._topic, label))
        self._labels = list(labels)

    def _keep_all(self, entities: dict[str, dict]) -> None:
        for topic, document in entities.items():
            self._broker.keep(topic, discovery.as_json(document))

    def _look(self) -> None:
        """Publish what can change without a frame: the settings, and whether the source is lost."""
        settings = self._pipeline.settings
        threshold = self._segmenter.sidecar.threshold if settings.threshold is None else settings.threshold
        document = {
            "words": ", ".join(settings.pack.names)[: discovery.WORDS_MAX_CHARS],
            "threshold": round(float(threshold), 4),
            "paused": settings.paused,
        }
        self._broker.keep(f"{self._topic}/settings", discovery.as_json(document))
        status = b"offline" if self._pipeline.source.away else b"online"
        self._broker.keep(f"{self._topic}/status", status)

    def _command(self, topic: str, payload: bytes) -> None:
        name = topic.removeprefix(f"{self._topic}/set/")
        problem = ""
        try:
            text = payload.decode().strip()
            {"words": self._words, "threshold": self._threshold, "pause": self._pause, "snapshot": self._snapshot}[
                name
            ](text)
        except (ZerosegError, ValueError) as error:
            problem = f"{name}: {error}"
        self._broker.keep(f"{self._topic}/problem", problem[: discovery.WORDS_MAX_CHARS].encode())
        self._look()

    def _words(self, text: str) -> None:
        names = split_words(text)
        _check_count(names)
        self._pipeline.change(pack=self._segmenter.label_pack(names, self._options.text))

    def _threshold(self, text: str) -> None:
        if text.lower() == "default":
            self._pipeline.change(threshold=None)
            return
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not -1 <= value <= 2:
            raise ZerosegError(f"expected -1 to 2, or default; got {text[:40]!r}")
        self._pipeline.change(threshold=value)

    def _pause(self, text: str) -> None:
        if text.lower() not in (*_ON, *_OFF):
            raise ZerosegError(f"expected ON or OFF, got {text[:40]!r}")
        self._pipeline.change(paused=text.lower() in _ON)

    def _snapshot(self, text: str = "") -> None:
        if self._options.snapshot == "off":
            raise ZerosegError("snapshots are off (--mqtt-snapshot)")
        if self._newest is None:
            raise ZerosegError("there is no picture yet")
        settings = self._pipeline.settings
        result = self._newest.result
        picture = draw_frame(result, result.colors, settings.alpha, legend=True)
        self._broker.send(f"{self._topic}/snapshot", to_jpeg(picture))


def _check_count(names) -> None:
    if not 1 <= len(names) <= LABELS_MAX:
        raise ZerosegError(f"expected 1 to {LABELS_MAX} words, got {len(names)}")


def _document(label: str, state: State) -> dict:
    return {
        "label": label,
        "present": state.present,
        "area": round(100 * state.area, 2),
        "score": None if state.score is None else round(state.score, 4),
    }
