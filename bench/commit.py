"""Which commit a figure belongs to."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def current_commit(*parts: str) -> str | None:
    """Short hash of the checkout, None outside one; "+" marks that `parts` of the tree differ from it."""
    def git(*command):
        return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    return commit + "+" * bool(git("status", "--porcelain", *parts)) if commit else None
