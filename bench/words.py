"""Do words that the model does not know land near the right known names? Top-1 and top-3 on everyday_nouns.tsv.

    python bench/words.py
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

try:
    import zeroseg  # noqa: F401
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from zeroseg.words import embed_labels
from zeroseg.words.spelling import without_brackets

NOUNS = Path(__file__).resolve().parent / "everyday_nouns.tsv"


def measure(path: Path = NOUNS) -> dict:
    """{"nouns", "top1", "top3"} in percent, "groups" of the same, and "missed": noun -> nearest known name."""
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    nearest = embed_labels([noun for _, noun, _ in lines]).nearest
    groups, missed = defaultdict(list), {}
    for (group, noun, right), near in zip(lines, nearest):
        wanted = set(right.lower().split("|"))
        hits = [name.lower() in wanted or without_brackets(name.lower()) in wanted for name in near]
        groups[group].append((hits[0], any(hits)))
        if not hits[0]:
            missed[noun] = near[0]
    share = lambda rows, i: 100 * sum(row[i] for row in rows) / len(rows)  # noqa: E731
    every = [row for rows in groups.values() for row in rows]
    return {"nouns": len(every), "top1": share(every, 0), "top3": share(every, 1), "missed": missed,
            "groups": {group: [len(rows), share(rows, 0), share(rows, 1)] for group, rows in groups.items()}}


if __name__ == "__main__":
    result = measure()
    print(f"{'group':<28}{'nouns':>6}{'top-1 %':>9}{'top-3 %':>9}")
    for group, (count, top1, top3) in result["groups"].items():
        print(f"{group:<28}{count:>6}{top1:>9.1f}{top3:>9.1f}")
    print(f"{'all':<28}{result['nouns']:>6}{result['top1']:>9.1f}{result['top3']:>9.1f}")
    print(json.dumps({key: result[key] for key in ("nouns", "top1", "top3", "groups")}))
