"""Map an ImageNet classifier to a text embedding space: ConSE (Norouzi et al., 2014, arXiv 1312.5650).

v(x) = sum_c p_c(x) m_c is the mean of class vectors weighted by class probabilities. The vector of a class is made from
the names of its WordNet synset and hypernyms, m_c = unit(sum_n g^depth(c, n) (t_n - t_mean)), where t_n is a name's
text embedding and t_mean the mean of all. It is supervised by ImageNet labels and is not CLIP.

A cell of a dense map sees only a small part. The photo's mean logits, added to those of the cell, give it the context
of the photo. The best amount differs between strength (how certain it is that something is there) and name, so two
amounts are used.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from zeroseg.errors import ZerosegError, check_array
from zeroseg.training.recipes import ConseConfig
from zeroseg.words.stored_arrays import check_arrays


@dataclass(frozen=True)
class LabelSpace:
    """Names with their text embeddings, and the names of each class of a classifier.

    names    N strings.
    vectors  (N, D) float32 unit rows.
    classes  per class, its (name, WordNet steps) pairs; possibly none.
    space    name of the embedding space of vectors.
    """

    names: tuple[str, ...]
    vectors: np.ndarray
    classes: tuple[tuple[tuple[str, int], ...], ...]
    space: str

    def mean(self) -> np.ndarray:
        """(D,) float32: the mean text vector, the origin of class vectors."""
        return self.vectors.mean(0)


@dataclass(frozen=True)
class Probe:
    """p = sigmoid(weight . logits + bias): a linear probe on class logits; weight (C,) float32, bias () float32."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """logits (..., C) -> probabilities (...) in [0, 1]."""
        return (logits @ self.weight + self.bias).sigmoid()

    def save(self, path: str | Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, weight=self.weight.numpy(), bias=self.bias.numpy())

    @classmethod
    def load(cls, path: str | Path, classes: int) -> "Probe":
        """Inverse of save; ZerosegError if it is not a probe with that many classes."""
        try:
            check_arrays(path)
            with np.load(path, allow_pickle=False) as stored:
                weight, bias = stored["weight"].astype(np.float32), stored["bias"].astype(np.float32)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
            raise ZerosegError(
                f"probe: {path} cannot be read; make one with training/person_probe.py ({type(error).__name__})"
            ) from error
        if weight.shape != (classes,) or bias.shape != () or not np.isfinite(weight).all() or not np.isfinite(bias):
            raise ZerosegError(
                f"probe: {path} : expected {classes} finite weights and a bias, got {weight.shape} and {bias.shape}"
            )
        return cls(torch.from_numpy(weight), torch.from_numpy(bias))


def load_label_space(names: str | Path, vectors: str | Path, classes: str | Path, space: str) -> LabelSpace:
    """Read label names (one a line), their vectors (.npy, row for row) and class names (JSON lines).

    A line of classes is {"index": class number, "names": [[name, steps], ...], ...}; names must be label names.
    Raises ZerosegError naming the file and what is wrong.
    """
    label_names = tuple(line.strip() for line in _read_text(names, "label names").splitlines() if line.strip())
    try:
        rows = np.load(vectors, allow_pickle=False)
    except (OSError, ValueError, MemoryError) as error:
        raise ZerosegError(f"label vectors: {vectors} cannot be read as .npy ({error})") from error
    if rows.ndim != 2 or len(rows) != len(label_names):
        raise ZerosegError(f"label vectors: expected ({len(label_names)}, D) as {names} has names, got {rows.shape}")
    rows = rows.astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    try:
        items = [json.loads(line) for line in _read_text(classes, "class names").splitlines() if line.strip()]
        table = {int(item["index"]): tuple((name, int(steps)) for name, steps in item["names"]) for item in items}
    except (ValueError, KeyError, TypeError) as error:
        raise ZerosegError(
            f'class names: {classes} : expected lines {{"index": 0, "names": [["cat", 1]]}} '
            f"({type(error).__name__}: {error})"
        ) from error
    if sorted(table) != list(range(len(table))):
        raise ZerosegError(f"class names: {classes} : expected classes numbered 0 to {len(table) - 1}, each once")
    unknown = sorted({name for entry in table.values() for name, _ in entry} - set(label_names))
    if unknown:
        raise ZerosegError(f"class names: {len(unknown)} names of {classes} are not in {names}, first {unknown[0]!r}")
    return LabelSpace(label_names, rows, tuple(table[i] for i in range(len(table))), space)


def class_vectors(labels: LabelSpace, config: ConseConfig) -> np.ndarray:
    """m_c: (C, D) float32, unit rows; zero rows for classes without names."""
    row = {name: i for i, name in enumerate(labels.names)}
    centred = labels.vectors - labels.mean()
    result = np.zeros((len(labels.classes), labels.vectors.shape[1]), np.float32)
    for c, entry in enumerate(labels.classes):
        for name, steps in entry:
            result[c] += config.depth_decay**steps * centred[row[name]]
    if config.worn_weight:
        if config.worn_name not in row:
            raise ZerosegError(f"worn_name: {config.worn_name!r} is not among the label names; set worn_weight to 0")
        for c in config.worn_classes:
            if c < len(result):
                result[c] += config.worn_weight * centred[row[config.worn_name]]
    norms = np.linalg.norm(result, axis=1, keepdims=True)
    return np.divide(result, norms, out=result, where=norms > 0)


def class_crowding(vectors: torch.Tensor) -> torch.Tensor:
    """log n_c, (C,) float32: n_c is the number of classes, itself included, with about the same meaning as class c.

    n_c = max(1, sum_j max(0, m_c . m_j)^4) for class vectors m (C, D), unit rows or zeros. ImageNet has 118 dogs and
    one sorrel, so an uncertain network puts most of its probability on dogs. Subtracting log n_c from a class's logit
    gives all meanings the same prior, instead of all classes (Saerens et al., 2002). Only the text vectors are used.
    """
    alike_CC = (vectors @ vectors.T).clamp_min(0) ** 4
    return alike_CC.sum(dim=1).clamp_min(1).log()


def read_logits(
    logits: torch.Tensor,
    vectors: torch.Tensor,
    config: ConseConfig,
    worn_vector: torch.Tensor | None = None,
    probe: Probe | None = None,
) -> torch.Tensor:
    """Embed every map cell of a photo: the direction comes from the name logits, the length from the strength logits.

    logits       (B, h, w, C) float32 class logits per place.
    vectors      (C, D) float32, from class_vectors.
    worn_vector  (D,) float32 unit, from name_vector(worn_name); needed if config.worn_gain > 0.
    probe        locates worn_name in addition to the clothes, with the weight config.probe_share.
    Returns (B, h, w, D) float32; |v|, about [0, 1], is the classifier's confidence that something with a name is there.
    A crop is a photo with one map cell: h = w = 1.
    """
    check_array("logits", logits, ("B", "h", "w", len(vectors)), "float32")
    context = logits.mean((1, 2), keepdim=True)
    probability = (logits + config.strength_context * context).softmax(-1)
    strength = (probability @ vectors).norm(dim=-1, keepdim=True)
    name_logits = logits + config.name_context * context
    if config.class_balance:
        name_logits = name_logits - config.class_balance * class_crowding(vectors)
    name = name_logits.softmax(-1) @ vectors
    places = strength**config.strength_power * torch.nn.functional.normalize(name, dim=-1)
    if config.worn_gain:
        worn = [c for c in config.worn_classes if c < len(vectors)]
        evidence = probability[..., worn].sum(-1, keepdim=True)
        if probe is not None:
            evidence = evidence.lerp(probe(logits)[..., None], config.probe_share)
        share = (config.worn_gain * evidence).clamp(max=1.0)
        places = (1 - share) * places + share * worn_vector
    if config.photo_balance:
        strongest = places.norm(dim=-1).flatten(1).quantile(0.98, dim=1).clamp(min=1e-3)
        places = places * (config.photo_level / strongest)[:, None, None, None] ** config.photo_balance
    return places


def name_vector(labels: LabelSpace, name: str) -> np.ndarray:
    """(D,) float32 unit vector of a label name, measured from the mean text vector; ZerosegError if it is unknown."""
    if name not in labels.names:
        raise ZerosegError(f"worn_name: {name!r} is not among the label names; set worn_weight and worn_gain to 0")
    vector = labels.vectors[labels.names.index(name)] - labels.mean()
    return vector / np.linalg.norm(vector)


def _read_text(path: str | Path, what: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ZerosegError(f"{what}: {path} cannot be read ({error})") from error
