"""The table of a suite in the published layout, with the published rows above, as Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from zeroseg.evaluation.published_rows import ROWS, SOURCE
from zeroseg.evaluation.suite import SuiteSet
from zeroseg.sidecar import Sidecar


@dataclass(frozen=True)
class SuiteReport:
    """results: column -> summary of a set that was measured. missing: column -> why it was not. about: the model."""

    suite: tuple[SuiteSet, ...]
    results: Mapping[str, dict]
    missing: Mapping[str, str]
    about: dict

    def miou(self, column: str) -> float | None:
        """In percent; None where the set was not measured or has no pixel that counts."""
        value = self.results.get(column, {}).get("miou")
        return None if value is None else 100 * value

    def mean(self) -> float | None:
        """The mean over the columns, of unrounded values; None unless all are there."""
        values = [self.miou(entry.column) for entry in self.suite]
        return None if None in values else sum(values) / len(values)

    def part(self, entry: SuiteSet) -> bool:
        """Whether a set was measured on fewer or more photos than the published one has."""
        return entry.column in self.results and self.results[entry.column]["photos"] not in entry.photos

    def markdown(self) -> str:
        """Title, table, and the notes without which the row cannot be compared."""
        columns = [entry.column for entry in self.suite]
        lines = ["| method | beside CLIP | " + " | ".join(columns) + " | mean |", "|---" * (len(columns) + 3) + "|"]
        for row in ROWS:
            lines.append(_line(row.method, row.uses, [f"{v:.1f}" for v in (*row.miou, row.mean)]))
        cells = [_cell(self.miou(e.column), "*" * self.part(e)) for e in self.suite]
        mean = _cell(self.mean(), "*" * any(map(self.part, self.suite)))
        lines.append(_line(f"**{self.about['model']}**", "see below", [*cells, mean]))
        return "\n".join([f"# {self.about['suite']}: {self.about['model']}", "", *lines, "", *self.notes()]) + "\n"

    def notes(self) -> list[str]:
        """One line each, beginning with a dash."""
        model = self.about["model"]
        notes = [
            f"mIoU in percent. The rows above {model} are published ({SOURCE}), without training, CLIP ViT-B/16; none "
            "was measured here.",
            f"{model}: {self.about['note']}",
        ]
        for entry in self.suite:
            if entry.column in self.results:
                notes.append(f"{entry.column}: {_settings(self.results[entry.column])}")
            else:
                notes.append(f"{entry.column}: not measured, {self.missing.get(entry.column, 'not there')}")
        if any(map(self.part, self.suite)):
            notes.append("*: not the number of photos that the published set has.")
        if self.mean() is None:
            notes.append(f"No mean: {len(self.results)} of {len(self.suite)} sets were measured.")
        return [f"- {note}" for note in notes]

    def json_text(self, indent: int | None = None) -> str:
        """Everything as JSON: about, mean and mIoU in percent by column, the sets' full reports, the published rows."""
        document = {
            **self.about,
            "miou": {entry.column: self.miou(entry.column) for entry in self.suite},
            "mean": self.mean(),
            "sets": dict(self.results),
            "missing": dict(self.missing),
            "published": [asdict(row) for row in ROWS],
            "published_source": SOURCE,
        }
        return json.dumps(document, indent=indent)


def model_note(sidecar: Sidecar) -> str:
    """What a reader must know of the model before comparing: its training, as its card says it."""
    if sidecar.dense is not None:
        return f"{sidecar.card.get('model', 'dense')}."
    said = sidecar.card.get("zero_shot")
    teachers = ", ".join(sidecar.card.get("teachers", ()))
    if not said:
        return "a trained model; its card does not say what its teachers were supervised by."
    return f"a trained model{f' (teachers: {teachers})' if teachers else ''}. {said}"


def _settings(result: dict) -> str:
    config = result["config"]
    text = f"{result['photos']} photos, {result['words']} words, short side {result['short_side']} px"
    if result["approximate"]:
        text += f", {result['approximate']} words known only by their spelling"
    if "background" in result["iou"]:
        text += f", background below {config['threshold']:.3g} ({config.get('background_rule', 'groupvit')} rule"
        text += f", logit scale {config['logit_scale']:g}" if config.get("background_rule") == "probability" else ""
        text += f", from {result['threshold_from']})"
    return text + ("" if config["protocol"] == "deployment" else f", protocol {config['protocol']}") + "."


def _line(method: str, uses: str, cells: list[str]) -> str:
    return "| " + " | ".join([method, uses, *cells]) + " |"


def _cell(value: float | None, mark: str) -> str:
    return "–" if value is None else f"{value:.1f}{mark}"
