"""Scores of segments for labels, in float32 on the CPU. New labels need no network run.

K segments (or patches), N labels, D embedding dim.
"""

import numpy as np

from zeroseg.products import products
from zeroseg.sidecar import Scoring

FALL = 10.0  # reduction by fall_off per unit of shortfall
REST = 0.01  # least share of a positive score that remains, so that labels keep their order without ties
LOGIT_SCALE = 100.0  # CLIP's, of cosines
DROPPED = -2.0  # score of a label that is dropped: below every cosine


def embedding_scores(embeddings_KD: np.ndarray, vectors_ND: np.ndarray, scoring: Scoring) -> np.ndarray:
    """(K, N) float32: every embedding's score for every label, before segments are compared with each other.

    embeddings_KD  (K, D) float32.
    vectors_ND     (N, D) float32 unit rows, the label vectors.

    Without a centre, a score is the cosine of e and t. With a centre c, it is e . (t - c) / |t - c|: a cosine times
    |e|, the confidence of the segment. It is computed as e . t - e . c and |t|^2 - 2 t . c + |c|^2 in one pass over t,
    so 1,200 labels cost about as much as 2.
    """
    if scoring.centre is None:
        return np.ascontiguousarray(products(vectors_ND, unit(embeddings_KD)).T)
    products_NK = products(vectors_ND, np.concatenate([embeddings_KD, scoring.centre[None]]))
    square_N = np.einsum("nd,nd->n", vectors_ND, vectors_ND) - 2 * products_NK[:, -1] + scoring.centre @ scoring.centre
    from_centre_NK = products_NK[:, :-1] - embeddings_KD @ scoring.centre
    return np.ascontiguousarray((from_centre_NK / np.sqrt(np.maximum(square_N, 1e-6))[:, None]).T)


def score_directions(vectors_ND: np.ndarray, scoring: Scoring) -> np.ndarray:
    """(N, D) float32: directions d of labels. For many embeddings e, e . d ranks them like embedding_scores, up to
    rounding. Without a centre, this holds for unit embeddings only.
    """
    if scoring.centre is None:
        return vectors_ND
    return unit(vectors_ND - scoring.centre).astype(np.float32)


def segment_scores(embeddings_KD: np.ndarray, vectors_ND: np.ndarray, scoring: Scoring) -> np.ndarray:
    """(K, N) float32: embedding_scores of the segments of one image, after fall_off. Compare with the threshold."""
    scores_KN = embedding_scores(embeddings_KD, vectors_ND, scoring)
    return fall_off(scores_KN, scoring.share) if scoring.share else scores_KN


def fall_off(scores_KN: np.ndarray, share: float, best_N: np.ndarray | None = None) -> np.ndarray:
    """max(min(s, 0.01 max(s, 0)), s - 10 max(0, share m - s)) of scores s (K, N), m = best_N the label's best.

    When a thing is present, its label scores higher in all segments of the image. So a score below share x m is reduced
    by ten times the shortfall, down to a hundredth of itself. The best score never changes, nor do scores below 0. This
    rule is our own; the paper has only a threshold.
    """
    short_KN = np.maximum(np.float32(share) * (scores_KN.max(0) if best_N is None else best_N) - scores_KN, 0)
    rest_KN = np.minimum(scores_KN, np.float32(REST) * np.maximum(scores_KN, 0))
    return np.maximum(rest_KN, scores_KN - np.float32(FALL) * short_KN)


def label_table(scores_KN: np.ndarray, threshold: float) -> np.ndarray:
    """(K,) int16: the best label of each segment, or -1 (background) if its score is below the threshold."""
    return np.where(scores_KN.max(1) >= np.float32(threshold), scores_KN.argmax(1), -1).astype(np.int16)


def without_weak(maps_Nhw: np.ndarray, least: float) -> np.ndarray:
    """maps (N, h, w) of cosines, with -2 in place of those of labels whose best patch is weak.

    A patch's probabilities are softmax over labels of 100 cos. A label is weak if its largest probability is below
    `least`; 0 keeps all. RADSeg, Alama et al. 2025, arXiv 2511.19704, "prompt denoising"; there it is 0.5.
    """
    if not least:
        return maps_Nhw
    rising = np.exp(np.float32(LOGIT_SCALE) * (maps_Nhw - maps_Nhw.max(0)))
    best_N = (rising / rising.sum(0)).max((1, 2))
    return np.where((best_N < least)[:, None, None], np.float32(DROPPED), maps_Nhw)


def unit(rows: np.ndarray) -> np.ndarray:
    """rows (..., D) scaled to length 1; a zero row stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
