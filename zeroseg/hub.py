"""Download pretrained weights from a model hub quietly, and report a failure in one clear line.

The hub libraries log every retry and raise many kinds of errors. A user needs to know what was looked for and what to
give instead.
"""

import logging
import sys
import textwrap
from contextlib import contextmanager

from tqdm import tqdm

from zeroseg.errors import UnavailableError, missing_package


@contextmanager
def fetching(what: str, instead: str):
    """Context for code that downloads `what`: says so, silences logging, turns any error into an UnavailableError.

    instead  what the user can give instead.
    """
    tqdm.write(f"loading {what} from the hub's cache, or else from the hub (this may take a minute)", file=sys.stderr)
    try:
        with quiet():
            yield
    except ModuleNotFoundError as error:
        raise missing_package(error, what) from error
    except Exception as error:  # noqa: BLE001 no common type
        reason = textwrap.shorten(str(error) or type(error).__name__, 120, placeholder=" ...")
        raise UnavailableError(f"{what} could not be downloaded; give {instead} ({reason})") from error


@contextmanager
def quiet():
    """No log records from any library."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
