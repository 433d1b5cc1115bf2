"""The spelling of labels: keys that are the same for different spellings of one word.

People write labels with capitals, articles, underscores, plurals, and British or American spelling. A word is looked up
by its key (`clean`), then by the keys of possible base forms. Nothing here knows which words exist.
"""

import re
import unicodedata
from collections.abc import Iterable

LABELS_MAX = 10_000  # of one list
LABEL_MAX_CHARS = 200
_SEPARATORS = re.compile(r"[,;\n，、；،؛]")  # also those of Chinese, Japanese and Arabic keyboards

ARTICLES = {"a", "an", "the", "some", "my", "your", "his", "her", "our", "their", "this", "that", "these", "those"}
_EMOJI_NOISE = {" face", " sign", " symbol", " head", " with tears of joy", "emoji modifier"}

# plurals, longest ending first: (ending, ending of the singular). Each singular is only a candidate for the look-up.
_PLURALS = [
    ("wives", "wife"),
    ("knives", "knife"),
    ("ieves", "ief"),
    ("sses", "ss"),
    ("shes", "sh"),
    ("ches", "ch"),
    ("zzes", "zz"),
    ("xes", "x"),
    ("oes", "o"),
    ("ies", "y"),
    ("ies", "ie"),
    ("ves", "f"),
    ("ves", "fe"),
    ("men", "man"),
    ("ses", "s"),
    ("ses", "sis"),
    ("zes", "z"),
    ("ices", "ix"),
    ("ices", "ex"),
    ("eaux", "eau"),
    ("ae", "a"),
    ("i", "us"),
    ("s", ""),
]
_IRREGULAR = {
    "men": "man",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "lice": "louse",
    "oxen": "ox",
    "children": "child",
    "people": "person",
    "dice": "die",
    "kine": "cow",
    "brethren": "brother",
    "pence": "penny",
    "calves": "calf",
    "wolves": "wolf",
    "leaves": "leaf",
    "loaves": "loaf",
}
# (British, American), tried in both directions on any part of a word
_SPELLINGS = [
    ("our", "or"),
    ("tre", "ter"),
    ("ise", "ize"),
    ("yse", "yze"),
    ("ogue", "og"),
    ("lling", "ling"),
    ("ller", "ler"),
    ("aero", "air"),
    ("grey", "gray"),
    ("tyre", "tire"),
    ("mould", "mold"),
    ("ph", "f"),
    ("moustache", "mustache"),
    ("pyjama", "pajama"),
    ("plough", "plow"),
    ("yoghurt", "yogurt"),
    ("ae", "e"),
    ("oe", "e"),
    ("cheque", "check"),
    ("sceptic", "skeptic"),
    ("draught", "draft"),
    ("kerb", "curb"),
]


def split_words(text: str) -> list[str]:
    """The words of one typed line, separated by commas or semicolons of any keyboard."""
    return each_once(_SEPARATORS.split(text))


def words_of_lines(text: str) -> list[str]:
    """The words of a word file, one per line, each once, without comments (see without_comment)."""
    return each_once(without_comment(line) for line in text.splitlines())


def without_comment(line: str) -> str:
    """A line without what follows "#" at its start or after a space, stripped: "c#  # a language" gives "c#"."""
    return re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()


def each_once(words: Iterable[str]) -> list[str]:
    """The words as written, without empty ones and without those that differ from an earlier one only in case."""
    first: dict[str, str] = {}
    for word in words:
        if word.strip():
            first.setdefault(word.strip().casefold(), word.strip())
    return list(first.values())


def clean(label: str, position: int = 0) -> str:
    """The key of a label: lower case, single spaces, no article, hyphen, underscore or outer punctuation.

    Accents are dropped, and emoji become the words of their Unicode names. Brackets stay, because known names have
    them: "bat (animal)". Raises ValueError if label is not a str, has no visible character, or is longer than
    LABEL_MAX_CHARS with emoji written out. position: its index among the labels, from 0, for the message.
    """
    if not isinstance(label, str):
        raise ValueError(f"label {position + 1}: expected a word or phrase (str), got {type(label).__name__}")
    if any(
        "\ud800" <= character <= "\udfff" for character in label
    ):  # half a surrogate pair, or bytes that were not UTF-8
        raise ValueError(f"label {position + 1}: expected Unicode text, got a lone surrogate; write it in UTF-8")
    text = label
    if len(label) <= LABEL_MAX_CHARS:
        text = "".join(_visible(character) for character in unicodedata.normalize("NFKD", label)).casefold()
    if len(text) > LABEL_MAX_CHARS:
        raise ValueError(
            f"label {position + 1}: expected at most {LABEL_MAX_CHARS} characters, got {len(text)}; "
            "give one word or phrase per label"
        )
    text = re.sub(r"[\s_\-]+", " ", text)
    text = re.sub(r"['’`]s\b", "s", text).strip(" \t\"'’`“”.,;:!?*#")
    words = text.split()
    while len(words) > 1 and words[0] in ARTICLES:
        words.pop(0)
    if not words:
        raise ValueError(
            f"label {position + 1}: expected a word or phrase, got {label[:20]!r}, which has no letter in it"
        )
    return " ".join(words)


def _visible(character: str) -> str:
    kind = unicodedata.category(character)
    if kind in {"So", "Sk"}:
        name = unicodedata.name(character, "").lower()
        for noise in _EMOJI_NOISE:
            name = name.removesuffix(noise) if name != noise.strip() else ""
        return f" {name} "
    if kind in {"Pd", "Zs", "Zl", "Zp", "Cc"}:
        return " "
    return "" if kind in {"Cf", "Mn", "Cs", "Co", "Cn"} else character


def without_brackets(key: str) -> str:
    """`bat (animal)` -> `bat`; unchanged if nothing would be left."""
    bare = " ".join(re.sub(r"\([^)]*\)|[()\[\]{}]", " ", key).split())
    return bare or key


def singulars(key: str) -> list[str]:
    """Possible singulars of key, likeliest first. The last word changes, or the word before "of"."""
    head, of, rest = key.partition(" of ")
    if of:
        return [one + of + rest for one in singulars(head)]
    before, space, word = key.rpartition(" ")
    found = [_IRREGULAR[word]] if word in _IRREGULAR else []
    found += [
        word[: -len(ending)] + instead
        for ending, instead in _PLURALS
        if word.endswith(ending) and len(word) > len(ending) + 1 and not (ending == "s" and word.endswith("ss"))
    ]
    return [before + space + one for one in dict.fromkeys(found)]


def spellings(key: str) -> list[str]:
    """The same word in American or British spelling: colour -> color, airplane -> aeroplane."""
    found = []
    for one, other in _SPELLINGS:
        if one in key:
            found.append(key.replace(one, other))
        if other in key:
            found.append(key.replace(other, one))
    return list(dict.fromkeys(found))


def joins_and_splits(key: str) -> list[str]:
    """The same letters with other word breaks: tooth brush -> toothbrush, firetruck -> fire truck."""
    if " " in key:
        return [key.replace(" ", "")]
    return [f"{key[:cut]} {key[cut:]}" for cut in range(1, len(key) - 1)] if len(key) <= 24 else []
