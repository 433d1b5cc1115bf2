"""Find by bisection which nodes must stay in float32, the most harmful node first."""

from collections import Counter
from collections.abc import Callable

from zeroseg.errors import ZerosegError

LIMIT = 12  # nodes searched for; a graph that needs more gains nothing from float16


def find_islands(
    nodes: dict[str, str],
    damage: Callable[[frozenset], tuple],
    passes: Callable[[frozenset], bool],
    report: Callable[[str], None] = lambda line: None,
) -> frozenset:
    """The names to keep in float32 so that passes(kept) holds.

    nodes: name -> operator, in the graph's order. damage(kept) measures the graph with `kept` in float32 and the rest
    in float16, and may do so roughly; smaller is better, and any tuple that sorts will do. passes(kept) decides. Every
    search halves the suspects, keeping the half that does more damage alone; an operator found twice is kept
    everywhere. ZerosegError after LIMIT searches.
    """
    every, kept = frozenset(nodes), frozenset()
    found = Counter()
    for _ in range(LIMIT):
        if passes(kept):
            return kept
        suspects = [name for name in nodes if name not in kept]
        if not suspects:
            break
        while len(suspects) > 1:
            middle = len(suspects) // 2
            left, right = suspects[:middle], suspects[middle:]
            suspects = left if damage(every - set(left)) >= damage(every - set(right)) else right
        name = suspects[0]
        found[nodes[name]] += 1
        kept |= {name}
        if found[nodes[name]] > 1:
            kept |= {other for other, operator in nodes.items() if operator == nodes[name]}
        report(f"float32 island: {name} ({nodes[name]}); {len(kept)} of {len(nodes)} nodes kept")
    if passes(kept):
        return kept
    raise ZerosegError(f"float16: {len(kept)} nodes kept in float32 and the masks still differ; use --precision fp32")
