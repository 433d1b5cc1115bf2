"""The broker's address and login, from the command line, a file and the environment."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from zeroseg.errors import ZerosegError

PORTS = {"mqtt": 1883, "mqtts": 8883}
USER, PASSWORD = "ZEROSEG_MQTT_USER", "ZEROSEG_MQTT_PASSWORD"
TOPIC_CHARS = 100


@dataclass(frozen=True)
class Address:
    """A broker's address. tls: whether the connection is encrypted; user, password: None if it needs none.

    ca_file: PEM file of the authority that signed the broker's certificate; None for those that the system trusts.
    """

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = None
    ca_file: Path | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def read_address(url: str, login_file: Path | None = None, ca_file: Path | None = None) -> Address:
    """Parse mqtt://host[:port] or, with TLS, mqtts://host[:port].

    login_file  two lines, user and password; None for the environment's ZEROSEG_MQTT_USER and ZEROSEG_MQTT_PASSWORD.
    ca_file     certificates in PEM; only with mqtts.
    Raises ZerosegError if the URL, a file or the environment is wrong.
    """
    expected = "expected mqtt://host[:port] or mqtts://host[:port]"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ZerosegError(f"--mqtt: {expected} ({error})") from error
    if "@" in parts.netloc:
        raise ZerosegError(
            f"--mqtt: others can see a password on the command line; use --mqtt-login FILE, or {USER} and {PASSWORD}"
        )
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ZerosegError(f"--mqtt: {expected}, got {url!r}")
    if ca_file is not None and parts.scheme != "mqtts":
        raise ZerosegError("--mqtt-ca: only for mqtts://, which is encrypted")
    if ca_file is not None and not ca_file.is_file():
        raise ZerosegError(f"--mqtt-ca {ca_file}: no such file")
    user, password = _login(login_file)
    return Address(parts.hostname, port or PORTS[parts.scheme], parts.scheme == "mqtts", user, password, ca_file)


def _login(file: Path | None) -> tuple[str | None, str | None]:
    if file is None:
        user = os.environ.get(USER)
        if user is None and PASSWORD in os.environ:
            raise ZerosegError(f"{PASSWORD} is set and {USER} is not; set both")
        return user, os.environ.get(PASSWORD)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ZerosegError(
            f"--mqtt-login {file}: cannot be read ({getattr(error, 'strerror', None) or error})"
        ) from error
    if not 1 <= len(lines) <= 2 or not lines[0]:
        raise ZerosegError(f"--mqtt-login {file}: expected two lines, user and password; got {len(lines)}")
    return lines[0], lines[1] if len(lines) == 2 else None


def check_topic(topic: str) -> str:
    """Return the base topic unchanged. Raises ZerosegError if MQTT or Home Assistant could not use it."""
    steps = topic.split("/")
    if (
        not all(steps)
        or len(topic) > TOPIC_CHARS
        or not topic.isprintable()
        or topic.startswith("$")
        or set(topic) & set("+#")
    ):
        raise ZerosegError(
            f"--mqtt-topic: expected a name such as garden or house/garden, at most {TOPIC_CHARS} characters, without "
            f"+, # or empty steps; got {topic!r}"
        )
    return topic
