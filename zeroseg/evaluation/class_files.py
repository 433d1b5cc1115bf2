"""Class lists of a folder: which name each mask value has. Lists of lines, YAML, labelme's labels.txt.

    classes.txt   one name a line, line number = id from 0. A blank line is an id without a class. What follows " #" is
                  a comment. A first line "__ignore__" has no id, as in labelme's lists: ids begin after it.
    classes.yaml  the names under `classes:` or `names:`, or at the top: a list, or `id: name` pairs.

A class called "background", "_background_" or "__background__" is the background. A class called "__ignore__", and id 0
called "unlabeled" or "void", is not counted.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from zeroseg import files
from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.evaluation.metrics import IGNORE
from zeroseg.words import without_comment

UNKNOWN = -1
_BACKGROUND = ("background", "_background_", "__background__")
_IGNORED = "__ignore__"
_IGNORED_AT_0 = ("unlabeled", "unlabelled", "void")


def read_class_file(path: Path) -> tuple[tuple[str, ...], int | None, np.ndarray]:
    """Names, background and id table of a class file as in the module docstring.

    Returns (names by class id, class id of the background or None, (256,) int16 table from mask value to class id, 255
    for "not counted", UNKNOWN for no class). Raises ZerosegError in one line that says where it is wrong.
    """
    text = read_text(path)
    named = _from_yaml(path, text) if path.suffix.lower() in (".yaml", ".yml") else _from_lines(path, text)
    left_out = [i for i in named if named[i].lower() == _IGNORED or i == 0 and named[i].lower() in _IGNORED_AT_0]
    ids = sorted(named.keys() - left_out)
    if not ids or ids[0] < 0 or ids[-1] >= IGNORE:
        found = f"got {ids[0]} to {ids[-1]}" if ids else "got none"
        raise ZerosegError(f"{path}: expected class names with ids 0..{IGNORE - 1}, {found}")
    names = ["background" if named[i].lower() in _BACKGROUND else named[i] for i in ids]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ZerosegError(
                f"{path}: ids {ids[names.index(name)]} and {ids[place]} are both called {name!r}; give them "
                "different names"
            )
    table = np.full(256, UNKNOWN, np.int16)
    table[[i for i in left_out if 0 <= i < IGNORE]] = IGNORE
    table[IGNORE] = IGNORE
    table[ids] = np.arange(len(ids))
    return tuple(names), names.index("background") if "background" in names else None, table


def _from_lines(path: Path, text: str) -> dict[int, str]:
    named, number = {}, 0
    for place, line in enumerate(text.splitlines()):
        name = without_comment(line)
        if place == 0 and name == _IGNORED:
            continue
        if not name and line.strip():
            raise ZerosegError(
                f"{path}: line {place + 1} is only a comment, but line numbers are ids; remove it or use classes.yaml"
            )
        if name:
            named[number] = name
        number += 1
    return named


def _from_yaml(path: Path, text: str) -> dict[int, str]:
    try:
        import yaml
    except ImportError as error:
        raise missing_extra("PyYAML", "eval", f"reading {path}") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ZerosegError(f"{path}: is not YAML: {getattr(error, 'problem', None) or error}{where}") from error
    if isinstance(root, yaml.MappingNode):
        lists = [value for key, value in root.value if key.value in ("classes", "names")]
        root = lists[0] if lists else root
    if isinstance(root, yaml.SequenceNode):
        pairs = [(str(i), node) for i, node in enumerate(root.value)]
    elif isinstance(root, yaml.MappingNode):
        pairs = [(key.value, value) for key, value in root.value]
    else:
        pairs = []
    named: dict[int, str] = {}
    for key, node in pairs:
        if isinstance(node, yaml.MappingNode):  # - {id: 3, name: cat}
            entry = {name.value: value for name, value in node.value}
            key, node = entry["id"].value if "id" in entry else key, entry.get("name", node)
        line = node.start_mark.line + 1
        if not (isinstance(node, yaml.ScalarNode) and node.value.strip() and re.fullmatch(r"-?\d+", str(key))):
            raise ZerosegError(
                f"{path}: line {line}: expected 'classes:' followed by a list of names or by lines 'id: name'"
            )
        if int(key) in named:
            raise ZerosegError(f"{path}: line {line}: id {int(key)} occurs twice")
        named[int(key)] = " ".join(node.value.split())
    if not named:
        raise ZerosegError(f"{path}: expected 'classes:' followed by a list of names or by lines 'id: name', got none")
    return named


def read_text(path: str | Path) -> str:
    """The text of a small file; ZerosegError where it cannot be read."""
    try:
        return files.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ZerosegError(f"{path}: expected a text file, got {error.__class__.__name__}") from error
