"""Scores in float64, one segment and one label at a time: the reference for zeroseg/segment/scores.py."""

import numpy as np


def scores_by_loops(embeddings, vectors, centre=None, share=0.0) -> np.ndarray:
    """(K, N) float64 scores of embeddings (K, D) for label vectors (N, D); centre (D,) or None."""
    embeddings, vectors = np.asarray(embeddings, np.float64), np.asarray(vectors, np.float64)
    scores = np.zeros((len(embeddings), len(vectors)))
    for n, vector in enumerate(vectors):
        for k, embedding in enumerate(embeddings):
            if centre is None:  # the cosine
                scores[k, n] = embedding @ vector / (np.linalg.norm(embedding) * np.linalg.norm(vector))
            else:
                direction = vector - np.asarray(centre, np.float64)
                scores[k, n] = embedding @ direction / np.linalg.norm(direction)
    return fallen_by_loops(scores, share) if share else scores


def fallen_by_loops(scores, share) -> np.ndarray:
    """Scores (K, N) less ten times what each is short of share x the label's best; a hundredth of it is kept."""
    fallen = np.array(scores, np.float64)
    for k, n in np.ndindex(fallen.shape):
        score, best = float(scores[k][n]), max(float(row[n]) for row in scores)
        lowered = score - 10 * max(0.0, share * best - score)
        fallen[k, n] = score if score < 0 else max(0.01 * score, lowered)
    return fallen
