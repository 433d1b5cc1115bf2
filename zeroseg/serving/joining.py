"""Several clients' requests as one run of the network, and each client's own part of the answer.

A label's score does not depend on the other labels, nor a photo's maps on the other photos. So photos of one size are
stacked, everybody's labels are put side by side, and request i gets its photos' rows and its labels' columns back.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from zeroseg.errors import ZerosegError, check_array


class Request(NamedTuple):
    """image (b, 3, H, W) float32; label_embeddings (b, N, D) float32, a label set for each photo."""

    image: np.ndarray
    label_embeddings: np.ndarray


def run_joined(
    run: Callable[[dict], dict], requests: Sequence[Request], dim: int, max_labels: int | None = None
) -> list[dict | str]:
    """Per request, in order: its outputs as from a run of its own, or the line that says why there are none.

    run         a Runner's run: image (B, 3, H, W), label_embeddings (N, D) -> segment_maps, segment_scores,
                image_scores.
    dim         D, numbers of an embedding.
    max_labels  most labels that run takes; requests that have more between them are run apart.
    """
    answers: list[dict | str | None] = [problem_of(request, dim) for request in requests]
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, request in enumerate(requests):
        if answers[index] is None:
            groups.setdefault(request.image.shape[2:], []).append(index)
    for group in groups.values():
        for indices in _split(requests, group, max_labels):
            for index, answer in zip(indices, _run_group(run, [requests[i] for i in indices]), strict=True):
                answers[index] = answer
    return answers


def _split(requests: Sequence[Request], group: list[int], max_labels: int | None) -> list[list[int]]:
    """The group in order, cut where its label sets would exceed max_labels; a set that several share counts once."""
    if max_labels is None:
        return [group]
    parts, sets = [], {}
    for index in group:
        mine = {labels.tobytes(): len(labels) for labels in requests[index].label_embeddings}
        if not parts or sum((sets | mine).values()) > max_labels:
            parts.append([])
            sets = {}
        parts[-1].append(index)
        sets |= mine
    return parts


def problem_of(request: Request, dim: int) -> str | None:
    """Why a request cannot be run, in one line."""
    try:
        check_array("image", request.image, ("B", 3, "H", "W"), "float32")
        check_array("label_embeddings", request.label_embeddings, (len(request.image), "N", dim), "float32")
    except ValueError as error:
        return str(error)
    if 0 in request.image.shape or 0 in request.label_embeddings.shape:
        return f"expected photos and labels, got {request.image.shape} and {request.label_embeddings.shape}"
    if not np.isfinite(request.label_embeddings).all():
        return "label_embeddings: expected finite numbers"
    return None


def _run_group(run, requests: list[Request]) -> list[dict | str]:
    columns, sets, width = {}, [], 0  # a label set that several share is run once
    for request in requests:
        for labels in request.label_embeddings:
            key = labels.tobytes()
            if key not in columns:
                columns[key] = slice(width, width + len(labels))
                sets.append(labels)
                width += len(labels)
    try:
        output = run(
            {"image": np.concatenate([request.image for request in requests]), "label_embeddings": np.concatenate(sets)}
        )
    except (ZerosegError, ValueError) as error:
        if len(requests) == 1:
            return [str(error)]
        return [answer for request in requests for answer in _run_group(run, [request])]  # only the culprit fails
    answers, row = [], 0
    for request in requests:
        rows = range(row, row + len(request.image))
        row += len(rows)
        mine = [columns[labels.tobytes()] for labels in request.label_embeddings]
        answers.append(
            {
                "segment_maps": output["segment_maps"][rows.start : rows.stop],
                "segment_scores": np.stack([output["segment_scores"][i][:, own] for i, own in zip(rows, mine)]),
                "image_scores": np.stack([output["image_scores"][i, own] for i, own in zip(rows, mine)]),
            }
        )
    return answers
