"""Which commit a figure or a file belongs to."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def current_commit(*parts: str, root: Path = ROOT) -> str | None:
    """Short hash of the checkout, None outside one; "+" marks that `parts` of the tree differ from it."""

    def git(*command):
        try:
            return subprocess.run(["git", *command], cwd=root, capture_output=True, text=True).stdout.strip()
        except OSError:  # no git here
            return ""

    top = git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != root.resolve():  # an environment may lie inside another project's checkout
        return None
    commit = git("rev-parse", "--short", "HEAD")
    return commit + "+" * bool(git("status", "--porcelain", *parts)) if commit else None
