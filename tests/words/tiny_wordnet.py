"""A WordNet of seventeen synsets in the format of the real database files (man wndb), for the builder's tests."""

from pathlib import Path

# id: (lexicographer file, words, hypernym, definition)
SYNSETS = {
    "00000001": (3, ["entity"], None, "anything that is"),
    "00000002": (5, ["animal", "beast"], "00000001", "a living entity that moves"),
    "00000003": (5, ["cat"], "00000002", "an animal that purrs"),
    "00000004": (5, ["dog"], "00000002", "an animal that barks"),
    "00000005": (5, ["tabby"], "00000003", "a cat with stripes"),
    "00000006": (18, ["person", "human"], "00000001", "an entity that talks"),
    "00000007": (6, ["vehicle"], "00000001", "a thing that carries"),
    "00000008": (6, ["car", "auto"], "00000007", "a vehicle with four wheels"),
    "00000009": (6, ["sedan"], "00000008", "a car with doors"),
    "00000010": (18, ["cat"], "00000006", "a person who gossips"),
    "00000011": (27, ["wood"], "00000001", "what trees are made of"),
    "00000012": (20, ["tree"], "00000001", "a plant of wood"),
    "00000013": (20, ["oak"], "00000012", "a tree with acorns"),
    "00000014": (27, ["oak"], "00000011", "the wood of an oak tree"),
    "00000015": (18, ["sailor"], "00000006", "a person on a vehicle of the sea"),
    "00000016": (6, ["bus"], "00000007", "a vehicle for many"),
    "00000017": (5, ["horse"], "00000002", "an animal that neighs"),
}
NAMES = ["animal", "cat", "dog", "person", "vehicle", "car", "tree", "bus", "horse", "wood"]


def write_wordnet(folder: Path) -> Path:
    below, senses = {}, {}
    for id, (_, words, above, _) in SYNSETS.items():
        below.setdefault(above, []).append(id)
        for word in words:
            senses.setdefault(word, []).append(id)
    data, index, counts = ["  1 the licence stands here"], [], []
    for id, (lexfile, words, above, definition) in SYNSETS.items():
        pointers = [f"@ {above} n 0000"] if above else []
        pointers += [f"~ {other} n 0000" for other in below.get(id, [])]
        spelt = " ".join(f"{word} 0" for word in words)
        data.append(
            f"{id} {lexfile:02d} n {len(words):02x} {spelt} {len(pointers):03d} {' '.join(pointers)} "
            f'| {definition}; "an example"'
        )
        counts += [f"{word}%1:{lexfile:02d}:00:: 1 {5 if id < '00000010' else 1}" for word in words]
    for word, ids in sorted(senses.items()):
        index.append(f"{word} n {len(ids)} 1 @ {len(ids)} {len(ids)} {' '.join(ids)}")
    files = {
        "data.noun": data,
        "index.noun": index,
        "cntlist.rev": counts,
        "noun.exc": ["busses bus"],
        "index.verb": ["run v 1 1 @ 1 1 00000001"],
        "index.adj": ["big a 1 1 @ 1 1 00000001"],
        "index.adv": ["well r 1 1 @ 1 1 00000001"],
        "verb.exc": ["ran run"],
        "adj.exc": ["bigger big"],
    }
    folder.mkdir()
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines), encoding="latin-1")
    return folder


def write_senses(path: Path) -> None:
    first = {}
    for id, (_, words, _, definition) in SYNSETS.items():
        for word in words:
            first.setdefault(word, (id, definition))
    path.write_text(
        "# name, how, synset\n" + "".join(f"{name}\t=\t{first[name][0]}\t{name}\t{first[name][1]}\n" for name in NAMES),
        encoding="utf-8",
    )
