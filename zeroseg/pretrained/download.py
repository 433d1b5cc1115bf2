"""Download models from the Hub with huggingface_hub, and turn its errors into one line.

Cache, offline mode and logins are huggingface_hub's, with HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and HF_TOKEN.
"""

import textwrap
from contextlib import contextmanager
from pathlib import Path

from zeroseg.errors import UnavailableError, ZerosegError, missing_extra
from zeroseg.pretrained.folder import CONFIG, read_config

PREFIX = "hf:"


def is_hub_name(name) -> bool:
    """Whether a model is written as hf:owner/name or hf:owner/name@revision."""
    return isinstance(name, str) and name.startswith(PREFIX)


def parted(name: str) -> tuple[str, str | None]:
    """Split hf:owner/name[@revision] into (owner/name, revision or None)."""
    name, _, revision = name.removeprefix(PREFIX).partition("@")
    return name, revision or None


def fetch(name: str, revision: str | None, files: list[str], again: bool = False) -> Path:
    """Download config.json and the first of `files` that the model has; return their folder in the cache.

    name      owner/name.
    revision  a branch, tag or commit; None for the newest. Both files come from the same commit.
    again     download them even if the cache has them.
    Raises ZerosegError if the model, revision or file does not exist, UnavailableError if the Hub cannot be reached and
    the cache does not have the files.
    """
    from zeroseg.hub import quiet

    hub = require_hub("A model from the Hub")
    with hub_errors(name, revision, CONFIG), quiet():
        config = Path(hub.hf_hub_download(name, CONFIG, revision=revision, force_download=again))
    sidecar = read_config(config.parent).get("sidecar")
    described = sidecar.get("files", {}) if isinstance(sidecar, dict) else {}
    file = next((file for file in files if file in described), files[0])
    commit = config.parent.name
    with hub_errors(name, revision, file), quiet():
        hub.hf_hub_download(name, file, revision=commit, force_download=again)
    return config.parent


def require_hub(purpose: str):
    """Import and return huggingface_hub. Raises UnavailableError, naming the extra, if it is not installed."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise missing_extra("huggingface_hub", "hub", purpose) from error
    return huggingface_hub


@contextmanager
def hub_errors(name: str, revision: str | None, file: str):
    """Turn what huggingface_hub raises into one line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise ZerosegError(f"{name!r}: expected owner/name of a model on the Hub, or an existing folder") from error
    except errors.LocalEntryNotFoundError as error:
        raise UnavailableError(
            f"{name}: {file} is not in the cache, and the Hub cannot be reached or HF_HUB_OFFLINE forbids it"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ZerosegError(f"{name}: has no revision {revision!r}; give a branch, a tag or a commit") from error
    except errors.RepositoryNotFoundError as error:
        raise ZerosegError(f"{name}: no such model on the Hub, or one that needs a login (hf auth login)") from error
    except errors.EntryNotFoundError as error:
        raise ZerosegError(f"{name}: has no {file}, which every zeroseg model has") from error
    except Exception as error:  # noqa: BLE001 errors of the library and of its HTTP client have no common type
        if isinstance(error, ZerosegError):
            raise
        reason = textwrap.shorten(str(error) or type(error).__name__, 120, placeholder=" ...")
        raise UnavailableError(
            f"{name}: {file} could not be transferred ({reason}); try again, and it continues where it stopped"
        ) from error
