"""A real mosquitto on loopback, and a client that keeps the messages it receives. Tests skip without mosquitto."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


class Mosquitto:
    """The broker. It stores nothing on disk, so a restart loses all retained messages."""

    def __init__(self, folder: Path, *lines: str, port_lines=()):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._conf = folder / "mosquitto.conf"
        access = [] if any(line.startswith("password_file") for line in lines) else ["allow_anonymous true"]
        listener = [f"listener {self.port} 127.0.0.1", *port_lines]
        self._conf.write_text("\n".join([*listener, *access, *lines, "persistence false", "user root"]) + "\n")
        self.start()

    def start(self):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self._conf)], **quiet)
        wait_until(self._answers)

    def _answers(self):
        assert self.process.poll() is None, "mosquitto ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self):
        self.process.kill()
        self.process.wait()


class Listener:
    """Subscribes to all topics and keeps the newest payload of each, retained ones included."""

    def __init__(self, port: int, user=None, password=None):
        import paho.mqtt.client as mqtt

        self.heard: dict[str, bytes] = {}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        if user:
            self.client.username_pw_set(user, password)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_message = lambda _, __, message: self.heard.update({message.topic: message.payload})
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def say(self, topic: str, payload) -> None:
        self.client.publish(topic, payload, qos=1)

    def wait_for(self, topic: str, payload=None, seconds=20.0) -> bytes:
        wait_until(lambda: topic in self.heard and payload in (None, self.heard[topic]), seconds)
        return self.heard[topic]

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def mosquitto(tmp_path):
    """Call it to start a broker; all are ended after the test."""
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed (extra mqtt)")
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    started = []

    def start(*lines, **options):
        started.append(Mosquitto(tmp_path, *lines, **options))
        return started[-1]

    yield start
    for broker in started:
        broker.kill()


@pytest.fixture
def listen():
    """Call it with a port to listen there; closed after the test."""
    listeners = []

    def start(*arguments):
        listeners.append(Listener(*arguments))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.close()
