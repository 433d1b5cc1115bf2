"""Download the picture behind an address, if there is one."""

import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import PurePosixPath

from zeroseg.errors import ZerosegError
from zeroseg.photos.listing import SUFFIXES, suffix_of

TIMEOUT_S = 10.0
BYTES_MAX = 256_000_000
_SUFFIX_OF = {"jpg": ".jpg", "pjpeg": ".jpg", "x-png": ".png", "x-ms-bmp": ".bmp", "vnd.microsoft.icon": ".ico"}


def download_picture(url: str) -> tuple[str, bytes] | None:
    """(file name, bytes) of the picture at an http(s) address; None if it is something else or nothing answers.

    The server's Content-Type decides, or without one the suffix of the address. Raises ZerosegError if a picture cannot
    be downloaded completely.
    """
    name = re.sub(r'[\\:<>"|?*\x00-\x1f]', "_", PurePosixPath(urllib.parse.urlsplit(url).path).name) or "picture"
    name = urllib.parse.unquote(name).replace("/", "_")
    try:
        opener, address = _opener(url)
        with opener.open(address, timeout=TIMEOUT_S) as answer:
            family, _, kind = answer.headers.get_content_type().partition("/")
            said_nothing = "Content-Type" not in answer.headers or kind == "octet-stream"
            if not (family == "image" or said_nothing and suffix_of(name) in SUFFIXES):
                return None
            data = answer.read(BYTES_MAX + 1)
    except (urllib.error.URLError, ValueError):
        return None
    except (OSError, EOFError) as error:
        raise ZerosegError(f"{name}: could not be downloaded ({error})") from error
    if len(data) > BYTES_MAX:
        raise ZerosegError(f"{name}: the download is larger than {BYTES_MAX // 1_000_000} MB")
    if suffix_of(name) not in SUFFIXES:
        name += _SUFFIX_OF.get(kind, f".{kind}" if f".{kind}" in SUFFIXES else ".jpg")
    return name, data


def _opener(url: str) -> tuple[urllib.request.OpenerDirector, str]:
    """An opener with the address's user and password, and the address without them."""
    parts = urllib.parse.urlsplit(url)
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if parts.username:
        user, password = (urllib.parse.unquote(text or "") for text in (parts.username, parts.password))
        passwords.add_password(None, address, user, password)
    handlers = (urllib.request.HTTPBasicAuthHandler, urllib.request.HTTPDigestAuthHandler)
    return urllib.request.build_opener(*(handler(passwords) for handler in handlers)), address
