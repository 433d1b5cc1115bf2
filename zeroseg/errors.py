"""The exceptions of zeroseg, and the shape check that all modules use. Standard library only.

There are two kinds of error: wrong input (ZerosegError, or ValueError from an array check), and something that this
machine lacks (UnavailableError). Each message is one line that the commands print unchanged: what was expected, what
came, what to do.
"""

from collections.abc import Sequence


class ZerosegError(Exception):
    """Wrong input: a file, a label, an option. str(error) is one clear line."""


class UnavailableError(ZerosegError, ImportError):
    """Something this machine lacks: an extra, a GPU, weights. str(error) says what was looked for and what to do."""


def missing_extra(module: str, extra: str, purpose: str) -> UnavailableError:
    """The error for an optional dependency that is not installed; raise it from the ImportError."""
    return UnavailableError(f"{purpose} needs {module}, which is not installed: pip install 'zeroseg[{extra}]'")


def missing_package(error: ModuleNotFoundError, purpose: str) -> UnavailableError:
    """The error for a package that is in no extra and is not installed; raise it from `error`."""
    package = (error.name or str(error)).partition(".")[0]
    return UnavailableError(f"{purpose}: needs {package}, which is not installed: pip install {package}")


def check_array(name: str, x, shape: Sequence[int | str], dtype: str | Sequence[str] | None = None) -> None:
    """Raise ValueError unless x (numpy array or torch tensor) has this shape and dtype.

    name   what the message calls x.
    shape  one entry per axis: an int must match exactly; a str names an axis of any size, and a name that occurs
           twice must have one size, as in ("B", 3, "H", "W").
    dtype  one name or several to choose from, "float32" or ("float16", "float32"); None accepts any.

    The message reads "image: expected (B, 3, H, W) float32, got (480, 640, 3) uint8".
    """
    dtypes = (dtype,) if isinstance(dtype, str) else tuple(dtype or ())
    wanted = "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
    if dtypes:
        wanted += " " + " or ".join(dtypes)
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise ValueError(f"{name}: expected an array {wanted}, got {type(x).__name__}")
    got_shape = tuple(int(size) for size in x.shape)
    got_dtype = str(x.dtype).removeprefix("torch.")
    if not _fits(got_shape, shape) or (dtypes and got_dtype not in dtypes):
        raise ValueError(f"{name}: expected {wanted}, got {got_shape} {got_dtype}")


def _fits(got: tuple[int, ...], wanted: Sequence[int | str]) -> bool:
    if len(got) != len(wanted):
        return False
    bound: dict[int | str, int] = {}
    return all(
        size == (axis if isinstance(axis, int) else bound.setdefault(axis, size))
        for size, axis in zip(got, wanted, strict=True)
    )
