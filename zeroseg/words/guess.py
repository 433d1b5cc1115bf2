"""Find the word meant by a misspelt one, by optimal string alignment distance to all entries at once.

One typing error is a missing, extra or wrong letter, or two swapped letters (Damerau 1964).
"""

from functools import lru_cache

import numpy as np

from zeroseg.words.table import WordsTable

_LONGEST = 24
_KNOWN_BONUS = 0.5
_COMMON_WEIGHT = 0.06  # per doubling of the frequency rank
_LETTER_WEIGHT = (
    0.2  # per letter that only one of the two has; so doubled and swapped letters are preferred to wrong ones
)
_BITS = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def similar_words(table: WordsTable, key: str) -> str | None:
    """The entry one typing error away (two from 7 letters on), the most likely of several; None if there is none.

    Errors in the first letter are corrected only to known names. Words under 4 letters are never corrected.
    """
    if not 4 <= len(key) <= _LONGEST:
        return None
    allowed = 1 if len(key) < 7 else 2
    letters, lengths, masks, words, price, known = _entries(table)
    near = np.flatnonzero((np.abs(lengths - len(key)) <= allowed) & ((letters[:, 0] == ord(key[0])) | known))
    other_letters = _BITS[(masks[near] ^ _letter_mask(key)).view(np.uint8).reshape(-1, 4)].sum(1)
    close = other_letters <= 2 * allowed
    near, other_letters = near[close], other_letters[close]
    distance = slips(letters[near], lengths[near], key)
    cost = np.where(distance <= allowed, distance + _LETTER_WEIGHT * other_letters + price[near], np.inf)
    best = int(np.argmin(cost)) if len(cost) else 0
    return words[near[best]] if len(cost) and np.isfinite(cost[best]) else None


@lru_cache(maxsize=1)
def _entries(table: WordsTable):
    everything = [*table.keys, *table.lemmas]
    rows = [row for row, word in enumerate(everything) if 2 < len(word) <= _LONGEST]
    words = [everything[row] for row in rows]
    letters = np.array(words, f"U{_LONGEST}").view(np.uint32).reshape(len(words), _LONGEST)
    masks = np.bitwise_or.reduce(np.where(letters > 0, np.uint32(1) << (letters & 31), 0).astype(np.uint32), axis=1)
    known = np.array(rows) < len(table.keys)
    price = _COMMON_WEIGHT * table.common[rows] - _KNOWN_BONUS * known
    return letters, (letters > 0).sum(1, dtype=np.int8), masks, words, price, known


def _letter_mask(key: str) -> np.uint32:
    """A bit for each letter of a word (modulo 32). One typing error changes at most two bits."""
    mask = 0
    for letter in key:
        mask |= 1 << (ord(letter) & 31)
    return np.uint32(mask)


def slips(letters: np.ndarray, lengths: np.ndarray, key: str) -> np.ndarray:
    """Distances from key to n words, (n,) int. letters: (n, L) code points, 0 after a word's end; lengths: (n,)."""
    if not len(letters):
        return np.zeros(0, int)
    target = np.array([ord(letter) for letter in key], np.uint32)
    width = int(lengths.max())
    same = (letters[:, :width, None] == target).astype(np.int8)  # (n, width, len(key))
    before_last = last = np.broadcast_to(np.arange(len(key) + 1, dtype=np.int16), (len(letters), len(key) + 1))
    result = np.full(len(letters), len(key), int)
    for i in range(width):
        row = np.empty_like(last)
        row[:, 0] = i + 1
        for j in range(len(key)):
            best = np.minimum(last[:, j + 1], row[:, j]) + 1
            best = np.minimum(best, last[:, j] + 1 - same[:, i, j])
            if i and j:
                swapped = (same[:, i, j - 1] & same[:, i - 1, j]).astype(bool)
                best = np.where(swapped, np.minimum(best, before_last[:, j - 1] + 1), best)
            row[:, j + 1] = best
        ended = lengths == i + 1
        result[ended] = row[ended, -1]
        before_last, last = last, row
    return result
