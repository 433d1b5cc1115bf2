"""A connection to an MQTT broker. It never blocks the caller, reconnects by itself, and resends all retained messages.

paho-mqtt gets one message at a time, and the broker confirms it (QoS 1). The others wait in a queue that keeps only the
newest message of each topic. So the queue cannot outgrow the number of topics, even if the broker is away or hangs.
"""

import ssl
import threading
import time
from collections import deque
from collections.abc import Callable

from zeroseg.errors import ZerosegError, missing_extra
from zeroseg.home.address import Address

MOST_WAITING = 2048  # topics; beyond that, the oldest message is dropped
MOST_COMMANDS = 16
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1, 30  # between attempts to connect; doubled each time
_KEEPALIVE_S, _CONNECT_S = 20, 5.0
_LOOK_S = 0.5


class Broker:
    """A connection with its own threads. Only close() waits for the network, for a limited time."""

    def __init__(
        self,
        address: Address,
        status_topic: str,
        command_topics: list[str],
        say: Callable[[str], None] = lambda line: None,
        on_command: Callable[[str, bytes], None] = lambda topic, payload: None,
        on_look: Callable[[], None] = lambda: None,
    ):
        """status_topic: the broker publishes "offline" there if this process dies. The sending thread calls on_command
        for each command, and on_look twice a second. Raises UnavailableError without paho-mqtt, ZerosegError for a bad
        ca_file."""
        try:
            import paho.mqtt.client as mqtt
        except ImportError as error:
            raise missing_extra("paho-mqtt", "mqtt", "--mqtt") from error
        self._address, self._say, self._on_command, self._on_look = address, say, on_command, on_look
        self._status_topic, self._command_topics = status_topic, command_topics
        self._kept: dict[str, bytes] = {}
        self._waiting: dict[str, tuple[bytes, bool]] = {}
        self._confirmed: set[int] = set()
        self._commands: deque[tuple[str, bytes]] = deque(maxlen=MOST_COMMANDS)
        self._change = threading.Condition()
        self._end_s: float | None = None
        self._told = ""
        self.dropped = 0
        self.connected = False
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, reconnect_on_failure=True)
        self._client.connect_timeout = _CONNECT_S
        self._client.reconnect_delay_set(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        self._client.will_set(status_topic, "offline", qos=1, retain=True)
        if address.user is not None:
            self._client.username_pw_set(address.user, address.password)
        if address.tls:
            try:
                self._client.tls_set(None if address.ca_file is None else str(address.ca_file))
            except (ssl.SSLError, OSError) as error:
                raise ZerosegError(f"--mqtt-ca {address.ca_file}: expected certificates in PEM ({error})") from error
        self._client.on_connect = self._connected
        self._client.on_connect_fail = lambda *_: self._tell(f"{address}: cannot be reached; trying again")
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._message
        self._client.on_publish = self._published
        self._thread = threading.Thread(target=self._work, daemon=True, name="zeroseg-mqtt")

    def start(self) -> "Broker":
        self._client.connect_async(self._address.host, self._address.port, _KEEPALIVE_S)
        self._client.loop_start()
        self._thread.start()
        return self

    def keep(self, topic: str, payload: bytes) -> None:
        """Publish a retained message, now and after every reconnect. An unchanged payload is not sent again."""
        with self._change:
            if self._kept.get(topic) != payload:
                self._kept[topic] = payload
                self._put(topic, payload, True)

    def forget(self, topic: str) -> None:
        """Delete the topic's retained message."""
        with self._change:
            if self._kept.pop(topic, None) is not None:
                self._put(topic, b"", True)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish once, not retained. Nothing is sent while the broker is away."""
        with self._change:
            if self.connected:
                self._put(topic, payload, False)

    def do(self, topic: str) -> None:
        """Queue a command with an empty payload, unless the same one is already queued."""
        with self._change:
            if (topic, b"") not in self._commands:
                self._commands.append((topic, b""))
                self._change.notify_all()

    def close(self, seconds: float = 2.0) -> None:
        """Send the queued messages, for at most this many seconds, and disconnect."""
        with self._change:
            self._end_s = time.monotonic() + seconds
            self._change.notify_all()
        self._thread.join(seconds + 1)
        self._client.disconnect()
        ending = threading.Thread(target=self._client.loop_stop, daemon=True)  # it may be in the middle of connecting
        ending.start()
        ending.join(1.0)

    def _put(self, topic: str, payload: bytes, retain: bool) -> None:
        self._waiting.pop(topic, None)
        self._waiting[topic] = payload, retain
        while len(self._waiting) > MOST_WAITING:
            self._waiting.pop(next(iter(self._waiting)))
            self.dropped += 1
        self._change.notify_all()

    def _work(self) -> None:
        look_s = 0.0
        while True:
            with self._change:
                self._change.wait_for(
                    lambda: self._commands or self._end_s or (self._waiting and self.connected), _LOOK_S
                )
                command = self._commands.popleft() if self._commands else None
                message = None
                if command is None and self._waiting and self.connected:
                    topic = next(iter(self._waiting))
                    message = topic, *self._waiting.pop(topic)
                if self._end_s and not message and not command or self._over():
                    return
            if command is not None:
                self._on_command(*command)
            elif message is not None:
                self._hand_over(*message)
            if time.monotonic() - look_s > _LOOK_S and not self._end_s:
                look_s = time.monotonic()
                self._on_look()

    def _hand_over(self, topic: str, payload: bytes, retain: bool) -> None:
        """Publish, and wait until the broker confirms it.

        If the connection is lost meanwhile, paho sends this message again, before anything newer of its topic.
        """
        number = self._client.publish(topic, payload, qos=1, retain=retain).mid  # without the lock: paho has its own
        with self._change:
            while number not in self._confirmed and not (self._over() or self._end_s and not self.connected):
                self._change.wait(_LOOK_S)
            self._confirmed.discard(number)

    def _published(self, client, userdata, number, reason, properties) -> None:
        with self._change:
            self._confirmed.add(number)
            self._change.notify_all()

    def _over(self) -> bool:
        return self._end_s is not None and time.monotonic() > self._end_s

    def _connected(self, client, userdata, flags, reason, properties) -> None:
        if reason.is_failure:
            self._tell(f"{self._address}: refused ({reason}); trying again")
            return
        self._tell(f"{self._address}: connected")
        for topic in self._command_topics:
            client.subscribe(topic, qos=1)
        with self._change:
            self.connected = True
            newer = self._waiting
            self._waiting = {topic: (payload, True) for topic, payload in self._kept.items() if topic not in newer}
            self._waiting |= newer
            self._change.notify_all()

    def _disconnected(self, client, userdata, flags, reason, properties) -> None:
        with self._change:
            was, self.connected = self.connected, False
        if was and self._end_s is None:
            self._tell(f"{self._address}: lost ({reason}); trying again")

    def _message(self, client, userdata, message) -> None:
        with self._change:
            self._commands.append((message.topic, message.payload))
            self._change.notify_all()

    def _tell(self, line: str) -> None:
        if line != self._told:  # not at every attempt
            self._told = line
            self._say(line)
