"""Label packs: names with their vectors in one file, accepted wherever labels are.

labels.npz has names (n,) str, vectors (n, D) float and space (a str). Optional are kind (n,) str, nearest (n,) str
(names joined by "|") and edition, an int. It never has pickled objects, so a pack from a stranger cannot run code.
"""

import difflib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zeroseg.errors import ZerosegError
from zeroseg.files import whole_file
from zeroseg.words.spelling import LABELS_MAX
from zeroseg.words.stored_arrays import check_arrays

SPACE = "openai/clip-vit-base-patch32"
EDITION = 2  # of the files; 1 had no number
# open_clip models that ran with a wrong activation in edition 1
_QUICK_SPACES = (
    SPACE,
    "openai/clip-vit-base-patch16",
    "openai/clip-vit-large-patch14",
    "openai/clip-vit-large-patch14-336",
)
_QUICK_TAGS = (
    "openai,yfcc15m,cc12m,laion400m_e31,laion400m_e32,metaclip_400m,metaclip_fullcc,dfn2b,dfn5b,metaclip2_worldwide"
).split(",")
MARKS = {"name": "", "noun": "~", "phrase": "~", "guess": "?"}  # kind of a label -> how it is marked


@dataclass(frozen=True)
class LabelPack:
    """Names and the text vectors that stand for them.

    names    list of n str, none empty.
    vectors  (n, D) float32, unit rows. Other rows are scaled to length 1, because only the direction matters and many
             towers give unscaled vectors. A zero row, NaN or infinity is refused.
    space    name of the embedding space; packs of different spaces cannot be mixed.
    kind     per name how exact its vector is: "name", exact; "noun" or "phrase", an approximation; "guess", not an
             English noun. None: all are exact.
    nearest  per name the nearest known names; empty lists where unknown.

    Raises ValueError if these do not fit together.
    """

    names: Sequence[str]
    vectors: np.ndarray
    space: str = SPACE
    kind: Sequence[str] | None = None
    nearest: Sequence[Sequence[str]] = field(default_factory=list)

    def __post_init__(self):
        names = list(self.names)
        if not names or not all(isinstance(name, str) and name.strip() for name in names):
            raise ValueError("names: expected at least one name, none of them empty")
        if len(names) > LABELS_MAX:
            raise ValueError(f"names: expected at most {LABELS_MAX}, got {len(names)}")
        kind = ["name"] * len(names) if self.kind is None else list(self.kind)
        if len(kind) != len(names) or not all(isinstance(one, str) and one in MARKS for one in kind):
            raise ValueError(f"kind: expected {len(names)} of {', '.join(MARKS)}, got {str(kind)[:80]}")
        nearest = [list(row) for row in self.nearest] or [[] for _ in names]
        if len(nearest) != len(names):
            raise ValueError(f"nearest: expected {len(names)} lists, got {len(nearest)}")
        if not isinstance(self.space, str) or not self.space:
            raise ValueError(f"space: expected the name of an embedding space, got {self.space!r}")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "vectors", _unit_rows(self.vectors, len(names)))
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "nearest", nearest)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def known(self) -> list[bool]:
        """Per name, whether its vector is exact."""
        return [kind == "name" for kind in self.kind]

    @property
    def marks(self) -> list[str]:
        """The mark of each name: "" exact, "~" approximate, "?" not an English noun and therefore a guess."""
        return [MARKS[kind] for kind in self.kind]

    def require(self, space: str, dim: int) -> None:
        """Raise ValueError unless the pack is of this space and width (a model's embedding_space, embedding_dim)."""
        if self.space != space or self.vectors.shape[1] != dim:
            raise ValueError(
                f"label pack: expected {dim} numbers per name in the space {space}, got "
                f"{self.vectors.shape[1]} in {self.space}; make the pack again with that model's text tower"
            )

    def pick(self, names: Sequence[str]) -> "LabelPack":
        """The pack of only these names, in this order, in upper or lower case. Raises ValueError for a missing name."""
        rows = {name.strip().lower(): i for i, name in reversed(list(enumerate(self.names)))}
        missing = [name for name in names if str(name).strip().lower() not in rows]
        if missing:
            near = difflib.get_close_matches(str(missing[0]).lower(), rows, 3)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise ValueError(f"label pack: {missing[0]!r} is not among its {len(self)} names{hint}")
        chosen = [rows[str(name).strip().lower()] for name in names]
        return LabelPack(
            list(names),
            self.vectors[chosen],
            self.space,
            [self.kind[i] for i in chosen],
            [self.nearest[i] for i in chosen],
        )

    def save(self, path: str | Path) -> Path:
        """Write the pack; return the path, with .npz added if it was missing. Overwrites.

        Raises ZerosegError if it cannot be written.
        """
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
        with whole_file(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(
                file,
                names=np.array(self.names),
                vectors=self.vectors,
                space=np.array(self.space),
                kind=np.array(self.kind),
                nearest=np.array(["|".join(row) for row in self.nearest]),
                edition=np.array(EDITION),
            )
        return path

    @classmethod
    def load(cls, path: str | Path) -> "LabelPack":
        """Read a pack. Raises ZerosegError, naming the file, if it is missing or not a pack."""
        path = Path(path)
        if not path.is_file():
            raise ZerosegError(f"{path}: no such label pack; make one with: zeroseg words LABELS -o {path.name}")
        try:
            return cls(**_read(path))
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ZerosegError(
                f"{path}: expected a label pack (names, vectors, space), but {_reason(error)}"
            ) from error


def _read(path: Path) -> dict:
    check_arrays(path)
    with np.load(path, allow_pickle=False) as stored:
        fields = {
            "names": _strings(stored, "names").ravel().tolist(),
            "vectors": stored["vectors"],
            "space": str(_strings(stored, "space")),
        }
        _refuse_wrong_activation(stored, fields["space"])
        if "kind" in stored:
            fields["kind"] = _strings(stored, "kind").ravel().tolist()
        elif "known" in stored:  # packs from before there were kinds
            fields["kind"] = ["name" if known else "noun" for known in stored["known"].ravel().tolist()]
        if "nearest" in stored:
            fields["nearest"] = [row.split("|") if row else [] for row in _strings(stored, "nearest").ravel().tolist()]
    return fields


def _refuse_wrong_activation(stored, space: str) -> None:
    """Raise ValueError for a pack that an earlier zeroseg made with an open_clip tower run with a wrong activation.

    Packs of the bundled word table have the same space as OpenAI's ViT-B/32; they have nearest words, a tower has none.
    """
    ours = "nearest" in stored and "known" in stored
    if "edition" in stored or not ours or any(_strings(stored, "nearest").ravel().tolist()):
        return
    arch, _, tag = space.removeprefix("open_clip/").partition("/")
    if space in _QUICK_SPACES or (space.startswith("open_clip/") and tag in _QUICK_TAGS and "quickgelu" not in arch):
        raise ValueError(
            "an earlier version may have made it with GELU, but these weights need QuickGELU; make it "
            "again with: zeroseg words LABELS --model open_clip:ARCH/TAG -o FILE"
        )


def _strings(stored, key: str) -> np.ndarray:
    array = stored[key]
    if array.dtype.kind != "U":
        raise ValueError(f"{key} is {array.dtype}, not text")
    return array


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return "it " + str(error.args[0]).replace(" is not a file in the archive", " is missing in it").removeprefix(
            "it "
        )
    if isinstance(error, zipfile.BadZipFile):
        return "it is not an .npz file"
    if "allow_pickle" in str(error):
        return "it holds pickled objects, which are never loaded"
    return " ".join(str(error).split())


def _unit_rows(vectors, count: int) -> np.ndarray:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.shape[0] != count or vectors.shape[1] < 1 or vectors.dtype.kind != "f":
        raise ValueError(f"vectors: expected ({count}, D) float, one row per name, got {vectors.shape} {vectors.dtype}")
    rows = vectors.astype(np.float32)
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(length).all():
        raise ValueError(
            f"vectors: expected finite numbers, got NaN or infinity in row {int(np.argmin(np.isfinite(length)))}"
        )
    if (length == 0).any():
        raise ValueError(f"vectors: expected directions, got only zeros in row {int(np.argmin(length))}")
    return rows if np.allclose(length, 1, atol=1e-6) else (rows / length).astype(np.float32)
