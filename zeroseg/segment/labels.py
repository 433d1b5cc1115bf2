"""Make a label pack from words, in a model's own embedding space."""

import os

import numpy as np

from zeroseg.errors import UnavailableError, ZerosegError
from zeroseg.sidecar import Sidecar
from zeroseg.words import LabelPack, embed_labels


def label_pack(labels, sidecar: Sidecar, text: str = "auto") -> LabelPack:
    """The pack of labels for a model: a list of words, a LabelPack, or the path of a labels.npz.

    text: source of the vectors, as for zeroseg.embed_labels; "auto" is the model's own text tower for an open_clip
    model, and the word table for others. A labels.npz gives the words in it, without a tower or torch. Repeated words
    count once. Raises ZerosegError or ValueError, in one line, if the labels are not in the model's space.
    """
    if isinstance(labels, (str, os.PathLike)):
        if not str(labels).endswith(".npz"):
            raise ZerosegError(f"labels: expected a list of words or a labels.npz, got {str(labels)!r}")
        pack = LabelPack.load(labels)
    elif isinstance(labels, LabelPack):
        pack = labels
    else:
        try:
            names = list(dict.fromkeys(labels))
        except TypeError:
            raise ZerosegError(f"labels: expected a list of words, got {labels!r}") from None
        if str(text).endswith(".npz"):
            pack = LabelPack.load(text).pick(names)
        elif sidecar.dense is not None and text == "auto":
            pack = LabelPack(names, _tower_vectors(sidecar, names), sidecar.embedding_space)
        else:
            pack = embed_labels(names, text=text)
    pack.require(sidecar.embedding_space, sidecar.embedding_dim)
    return pack


def _tower_vectors(sidecar: Sidecar, names: list[str]) -> np.ndarray:
    try:
        from zeroseg.dense.model import text_vectors

        return text_vectors(sidecar, names)
    except ModuleNotFoundError as error:
        reason = f"{error.name} is not installed"
    except ZerosegError as error:
        reason = str(error)
    raise UnavailableError(
        f"model {sidecar.name}: labels need its text tower, and {reason}; make a label pack on a "
        f"machine that has it: zeroseg words WORDS --model {sidecar.dense.text} -o labels.npz"
    )
