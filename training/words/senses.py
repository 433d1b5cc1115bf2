"""Choose the sense of a noun: a small ranker trained on the known names, whose senses are listed.

It is a conditional logit over the senses of a word: P(sense) = softmax(w . x(sense)). The known names are mostly
household things, so their weights for whole lexicographer files are biased. PRIORS replaces those weights (people are
labels too); training/words_dev.tsv was used to check this.
"""

from dataclasses import dataclass

import numpy as np

from zeroseg.training.words.wordnet_reader import (
    ANIMAL,
    ARTIFACT,
    BODY,
    FOOD,
    OBJECT,
    PERSON,
    PHYSICAL,
    PLANT,
    SUBSTANCE,
    WordNet,
)

_FILES = [ANIMAL, ARTIFACT, BODY, FOOD, OBJECT, PERSON, PLANT, SUBSTANCE, 3, 14]  # 3: the top nouns, 14: groups
FEATURES = [
    "rank",
    "count",
    "uncounted",
    "capital",
    "instance",
    "later_lemma",
    "no_synonym",
    "has_hyponyms",
    "physical",
    "gloss_similarity",
    "hypernym_similarity",
    "related_similarity",
    "gloss_glove",
    "related_glove",
    *(f"file_{number}" for number in _FILES),
    "file_other",
]
PRIORS = {
    "rank": -0.3,
    "instance": -4.0,
    "file_5": 1.4,
    "file_6": 1.3,
    "file_8": 0.8,
    "file_13": 1.2,
    "file_18": 0.9,
    "file_20": 0.4,
}
_WOOD_PENALTY = 1.5  # "the wood of the oak" is seldom what a label "oak" means


@dataclass
class Views:
    """Features of words by lower-case lemma and of definitions by synset id; see features.py."""

    lemma: dict[str, np.ndarray]
    lemma_glove: dict[str, np.ndarray]
    gloss: dict[str, np.ndarray]
    gloss_glove: dict[str, np.ndarray]


def sense_features(wordnet: WordNet, views: Views, lemma: str) -> np.ndarray:
    """(senses, features) float32 for one lower-case lemma."""
    ids = wordnet.senses[lemma]
    return np.stack([_features(wordnet, views, lemma, id, rank, len(ids)) for rank, id in enumerate(ids)])


def _features(wordnet: WordNet, views: Views, lemma: str, id: str, rank: int, total: int) -> np.ndarray:
    synset = wordnet.synsets[id]
    lowered = [word.lower() for word in synset.lemmas]
    at = lowered.index(lemma) if lemma in lowered else 0
    above = [_first(wordnet, other) for other in synset.hypernyms]
    related = above + [word for word in lowered if word != lemma] + [_first(wordnet, o) for o in synset.hyponyms[:12]]
    above = [word for word in above if lemma not in word]  # "tree frog" below "frog" says nothing new
    related = [word for word in related if lemma not in word]
    own, own_glove = views.lemma[lemma], views.lemma_glove[lemma]
    file = synset.lexfile if synset.lexfile in _FILES else "other"
    values = {
        "rank": min(rank, 5),
        "count": np.log1p(synset.counts[at]),
        "uncounted": synset.counts[at] == 0 and total > 1,
        "capital": synset.lemmas[at] != lowered[at],
        "instance": synset.is_instance,
        "later_lemma": at > 0,
        "no_synonym": len(lowered) == 1,
        "has_hyponyms": bool(synset.hyponyms),
        "physical": synset.lexfile in PHYSICAL,
        "gloss_similarity": own @ views.gloss[id],
        "hypernym_similarity": max([own @ views.lemma[word] for word in above], default=0),
        "related_similarity": np.mean([own @ views.lemma[word] for word in related]) if related else 0,
        "gloss_glove": own_glove @ views.gloss_glove[id],
        "related_glove": np.mean([own_glove @ views.lemma_glove[word] for word in related]) if related else 0,
        f"file_{file}": 1,
    }
    return np.array([float(values.get(name, 0)) for name in FEATURES], np.float32)


def _first(wordnet: WordNet, id: str) -> str:
    return wordnet.synsets[id].lemmas[0].lower()


def fit_ranker(examples: list[tuple[np.ndarray, int]], strength: float = 1.0) -> np.ndarray:
    """Weights of the conditional logit with an L2 penalty. examples: (features of the senses, index of the right)."""
    from scipy.optimize import minimize

    def loss(weights):
        total, slope = strength * weights @ weights, 2 * strength * weights
        for features, right in examples:
            scores = features @ weights
            chances = np.exp(scores - scores.max())
            chances /= chances.sum()
            total -= np.log(chances[right] + 1e-12)
            slope += features.T @ chances - features[right]
        return total, slope

    return minimize(loss, np.zeros(len(FEATURES)), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x


def with_priors(weights: np.ndarray) -> np.ndarray:
    """The learnt weights with PRIORS applied."""
    return np.array([PRIORS.get(name, weight) for name, weight in zip(FEATURES, weights)])


def sense_chances(wordnet: WordNet, views: Views, weights: np.ndarray, lemma: str) -> list[tuple[str, float]]:
    """(synset id, probability) for every sense of a lower-case lemma, in WordNet's order."""
    ids = wordnet.senses[lemma]
    if len(ids) == 1:
        return [(ids[0], 1.0)]
    wood = set(wordnet.senses["wood"])
    scores = sense_features(wordnet, views, lemma) @ weights
    scores -= [_WOOD_PENALTY * bool(wood & set(wordnet.ancestors(id))) for id in ids]
    chances = np.exp(scores - scores.max())
    return list(zip(ids, (chances / chances.sum()).tolist()))
