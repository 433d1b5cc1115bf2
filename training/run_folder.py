"""The folder of one run: config.json, checkpoint.pt, curve.csv, and at the end model.pt. Another run never overwrites
it, and every file is written completely or not at all.
"""

import csv
import json
from pathlib import Path

from zeroseg.errors import ZerosegError
from zeroseg.files import remove_leftovers, whole_file, write_text
from zeroseg.model.torch_file import load_torch, save_torch

CHECKPOINT_FORMAT = 1


class RunFolder:
    """path/config.json, checkpoint.pt, curve.csv, curve.png, masks.png, model.pt."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._begun = self._made = False

    def begin(self) -> None:
        """Make the folder; ZerosegError if it holds anything."""
        if self.path.exists() and not self.path.is_dir():
            raise ZerosegError(f"run: {self.path} is a file")
        if self.path.is_dir() and any(self.path.iterdir()):
            raise ZerosegError(f"run: {self.path} is not empty; add --resume to continue it, or choose another --out")
        self._made = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        self._begun = True

    def abandon(self) -> None:
        """Leave things as they were before begin(), unless there is more by now than what the run is made of."""
        if self._begun and {path.name for path in self.path.iterdir()} <= {"config.json"}:
            (self.path / "config.json").unlink(missing_ok=True)
            if self._made:
                self.path.rmdir()

    def write_config(self, values: dict) -> None:
        """Write the settings of the run."""
        text = json.dumps(values, indent=1) + "\n"
        write_text(self.path / "config.json", text)

    def read_config(self) -> dict:
        """The settings of the run; ZerosegError if there is no run here."""
        try:
            return json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = type(error).__name__
            raise ZerosegError(f"run: {self.path} has no run to resume (config.json: {reason})") from error

    def has_checkpoint(self) -> bool:
        """Whether there is a state to continue from."""
        return (self.path / "checkpoint.pt").is_file()

    def save_checkpoint(self, state: dict) -> None:
        """Write the training state."""
        save_torch({"format": CHECKPOINT_FORMAT, **state}, self.path / "checkpoint.pt", durable=True)

    def load_checkpoint(self) -> dict:
        """The training state, on the CPU; ZerosegError if the file is damaged or of another kind."""
        remove_leftovers(self.path)
        path = self.path / "checkpoint.pt"
        try:
            state = load_torch(path, "training checkpoint")
        except ZerosegError as error:
            raise ZerosegError(f"checkpoint cannot be read: {error}; delete it to start this run again") from error
        if not isinstance(state, dict) or state.get("format") != CHECKPOINT_FORMAT or "step" not in state:
            raise ZerosegError(f"checkpoint {path} is not one of this version's training checkpoints")
        return state

    def curve(self, columns: list[str], step: int) -> "Curve":
        """curve.csv, open for more rows; rows of later steps than `step` are dropped."""
        return Curve(self.path / "curve.csv", columns, step)

    def write_curve_json(self) -> None:
        """curve.csv as curve.json: column -> a number per step, null if it was not measured."""
        rows = read_curve(self.path / "curve.csv")
        columns = {
            name: [float(row[name]) if row[name] else None for row in rows] for name in (rows[0] if rows else ())
        }
        text = json.dumps(columns) + "\n"
        write_text(self.path / "curve.json", text)

    def write_image(self, name: str, image) -> None:
        """A PIL image as PNG."""
        with whole_file(self.path / name) as partial:
            image.save(partial, format="PNG")


class Curve:
    """A CSV table with one row per step; empty cells where a value was not measured."""

    def __init__(self, path: Path, columns: list[str], step: int):
        self.columns = ["step", *columns]
        rows = [row for row in read_curve(path) if int(row["step"]) <= step] if path.is_file() else []
        with whole_file(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        self.file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115 open as long as the run
        self.writer = csv.DictWriter(self.file, self.columns, restval="", lineterminator="\n")

    def add(self, step: int, values: dict[str, float]) -> None:
        """One row, on disk at once."""
        self.writer.writerow({"step": step} | {name: f"{value:.6g}" for name, value in values.items()})
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def read_curve(path: Path) -> list[dict[str, str]]:
    """The rows of a curve.csv, all values as text."""
    with open(path, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row.get("step")]
