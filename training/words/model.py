"""Estimate a noun's direction in CLIP's text space from its meaning.

There are two estimates, both directions relative to the mean of the known names' text vectors (as in the model):

- kernel ridge regression from the known names: k(a, b) = exp(sum_v w_v (cos_v(a, b) - 1)) over four features v
(position
  in the taxonomy, the sentence embeddings of the word and of the definition, GloVe), p = k(x)^T (K + lambda I)^-1 C. It
  is sharpened by the mean q of the five most similar names.
- the known names above the noun in WordNet, the nearest with the largest weight:
  a = sum_i near^d0 * further^(d_i - d0) c_i. A text tower puts "sailor" near ships, but a user means the person.

The direction is p + TOP q + ANCHOR a, each of unit length but a. Weights were chosen by leave-one-synset-out cosine on
the known names and by training/words_dev.tsv.
"""

import numpy as np
from scipy import sparse

from zeroseg.training.words.features import unit
from zeroseg.training.words.wordnet_reader import WordNet

VIEW_WEIGHTS = {"taxonomy": 0.7, "word": 2.3, "gloss": 0.8, "glove": 0.7}
RIDGE = 0.1
TOP, TOP_NAMES, TOP_POWER = 0.3, 5, 4
ANCHOR, NEAR, FURTHER, PERSON_WEIGHT = 0.8, 0.95, 0.5, 1.2
HYPERNYM = 0.6  # how much of its hypernym's word is mixed into a noun's own: the word alone may mean another sense


class Taxonomy:
    """Synsets as sparse unit rows over their ancestors; the product of two grows with the information they share.

    An ancestor's weight is its information beyond its parent: sqrt(IC(a) - max IC(parents)), IC(a) = -log of the share
    of synsets below a.
    """

    def __init__(self, wordnet: WordNet):
        ids = list(wordnet.synsets)
        self.row = {id: i for i, id in enumerate(ids)}
        below = np.zeros(len(ids))
        for id in ids:
            for other in wordnet.ancestors(id):
                below[self.row[other]] += 1
        content = -np.log(below / len(ids))
        gain = np.array(
            [
                content[i] - max([content[self.row[a]] for a in wordnet.synsets[id].hypernyms], default=0)
                for i, id in enumerate(ids)
            ]
        )
        weight = np.sqrt(np.maximum(gain, 1e-3)).astype(np.float32)
        entries = [(i, self.row[other]) for i, id in enumerate(ids) for other in wordnet.ancestors(id)]
        rows, columns = np.array(entries).T
        matrix = sparse.csr_matrix((weight[columns], (rows, columns)), shape=(len(ids), len(ids)))
        length = np.sqrt(matrix.multiply(matrix).sum(1).A1)
        self.rows = (sparse.diags(1 / length) @ matrix).tocsr()


class WordModel:
    """The kernel ridge regression. Names without a synset use only the features of their word.

    directions (n, D) float32 unit rows; synsets: per name a synset id or None; word, glove: (n, .) unit rows;
    gloss: synset id -> unit row.
    """

    def __init__(self, directions, synsets, word, glove, gloss: dict[str, np.ndarray], taxonomy: Taxonomy):
        self.taxonomy, self.gloss, self.directions = taxonomy, gloss, directions
        self.groups = np.unique([id or f"name {i}" for i, id in enumerate(synsets)], return_inverse=True)[1]
        self.word, self.glove = word, glove
        self.taxa, self.glosses = self._synset_rows(synsets)
        self.inverse = np.linalg.inv(self._kernel(self.taxa, self.glosses, word, glove) + RIDGE * np.eye(len(word)))
        self.coefficients = (self.inverse @ directions).astype(np.float32)

    def _synset_rows(self, synsets):
        size = len(next(iter(self.gloss.values())))
        at = [self.taxonomy.row[id] if id else 0 for id in synsets]
        there = np.array([id is not None for id in synsets], np.float32)
        gloss = np.stack([self.gloss[id] if id else np.zeros(size, np.float32) for id in synsets])
        return sparse.diags(there) @ self.taxonomy.rows[at], gloss

    def _kernel(self, taxa, gloss, word, glove):
        cosines = {
            "taxonomy": (taxa @ self.taxa.T).toarray(),
            "word": word @ self.word.T,
            "gloss": gloss @ self.glosses.T,
            "glove": glove @ self.glove.T,
        }
        return np.exp(sum(weight * (cosines[view] - 1) for view, weight in VIEW_WEIGHTS.items())).astype(np.float32)

    def predict(self, synsets, word, glove) -> np.ndarray:
        """(n, D) float32: p + TOP q for words in the given senses (ids or None)."""
        kernel = self._kernel(*self._synset_rows(synsets), word, glove)
        top = np.argpartition(-kernel, TOP_NAMES, axis=1)[:, :TOP_NAMES]
        closeness = np.take_along_axis(kernel, top, 1)
        closeness = (closeness / closeness.max(1, keepdims=True)) ** TOP_POWER
        nearest = np.einsum("nk,nkd->nd", closeness, self.directions[top])
        return unit(kernel @ self.coefficients) + TOP * unit(nearest)

    def held_out(self) -> np.ndarray:
        """(n, D): p of every name from all names of other synsets, in closed form. e_G = (A^-1_GG)^-1 (A^-1 C)_G."""
        residual = self.inverse @ self.directions
        predicted = np.empty_like(self.directions)
        for group in range(self.groups.max() + 1):
            rows = np.flatnonzero(self.groups == group)
            predicted[rows] = self.directions[rows] - np.linalg.solve(self.inverse[np.ix_(rows, rows)], residual[rows])
        return predicted


def anchor(wordnet: WordNet, named: dict[str, np.ndarray], id: str) -> np.ndarray | None:
    """a for a synset: the directions of the named synsets above it, or None. named: synset id -> unit direction."""
    above = sorted((distance, other) for other, distance in wordnet.ancestors(id).items() if other in named)
    if not above:
        return None
    person = wordnet.senses["person"][0]
    nearest = above[0][0]
    total = 0
    for distance, other in above:
        weight = NEAR**nearest * FURTHER ** (distance - nearest)
        total = total + max(weight, PERSON_WEIGHT if other == person else 0) * named[other]
    return total


def sparse_code(directions: np.ndarray, dictionary: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Each direction as a non-negative sum of `count` dictionary rows, by orthogonal matching pursuit.

    Returns indices (n, count) int and weights (n, count) float32 >= 0, largest first; unused entries have weight 0.
    """
    gram = dictionary @ dictionary.T
    wanted = directions @ dictionary.T
    n = len(directions)
    chosen, weights = np.zeros((n, 0), int), np.zeros((n, 0), np.float32)
    for _ in range(count):
        residual = wanted.copy()
        if chosen.shape[1]:
            residual -= (weights[:, None] @ gram[chosen])[:, 0]
            np.put_along_axis(residual, chosen, -1, 1)
        chosen = np.concatenate([chosen, residual.argmax(1)[:, None]], 1)
        weights = _non_negative(gram[chosen[:, :, None], chosen[:, None, :]], np.take_along_axis(wanted, chosen, 1))
    order = np.argsort(-weights, axis=1)
    return np.take_along_axis(chosen, order, 1), np.take_along_axis(weights, order, 1).astype(np.float32)


def _non_negative(gram: np.ndarray, wanted: np.ndarray, sweeps: int = 40) -> np.ndarray:
    """argmin over w >= 0 of w G w - 2 w s for a batch, by coordinate descent."""
    weights = np.zeros_like(wanted)
    for _ in range(sweeps):
        for k in range(wanted.shape[1]):
            rest = np.einsum("nj,nj->n", gram[:, k], weights) - gram[:, k, k] * weights[:, k]
            weights[:, k] = np.maximum(0, (wanted[:, k] - rest) / gram[:, k, k])
    return weights
