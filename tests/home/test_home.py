"""Labels published through a real mosquitto and received by an independent client."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from tests.home.conftest import wait_until
from tests.live.conftest import Kept, color_pack
from zeroseg.commands.infer import infer
from zeroseg.home.address import read_address
from zeroseg.home.broker import Broker
from zeroseg.home.sink import HomeOptions, HomeSink
from zeroseg.live.pattern import TestPattern
from zeroseg.live.pipeline import Pipeline
from zeroseg.segment.segmenter import Segmenter

ROOT = Path(__file__).resolve().parents[2]
PATTERN = "test://?size=160x96&fps=20"


@pytest.fixture
def watch(color_model, monkeypatch):
    """Run the test pattern against a port; ends with the test. Yields (pipeline, what it said)."""
    runs = []

    def start(port, labels=("red", "green"), **options):
        segmenter = Segmenter.load(color_model, threads=1).set_labels(color_pack(list(labels)))
        monkeypatch.setattr(segmenter, "label_pack", lambda names, text: color_pack(names))
        pipeline, said = Pipeline(TestPattern(PATTERN), segmenter, [kept := Kept()]), []
        address = read_address(f"mqtt://127.0.0.1:{port}")
        options = {"hold_s": 0.2, **options}
        pipeline.sinks.append(
            HomeSink(segmenter, pipeline, HomeOptions(address, "garden", **options), said.append).start()
        )
        runs.append(pipeline.start())
        return pipeline, kept, said

    yield start
    for pipeline in runs:
        if not pipeline.finished.is_set():
            end(pipeline)


def end(pipeline):
    pipeline.stop()
    pipeline.join(10)
    pipeline.close()


def test_states_commands_snapshots_and_the_end(mosquitto, listen, watch):
    broker = mosquitto()
    pipeline, kept, said = watch(broker.port)
    home = listen(broker.port)
    red = json.loads(home.wait_for("garden/label/red"))
    assert (
        red["label"] == "red"
        and red["present"]
        and 0 < red["area"] < 100
        and red["score"] == pytest.approx(1, abs=1e-3)
    )
    assert home.wait_for("garden/status") == b"online"
    settings = json.loads(home.wait_for("garden/settings"))
    assert settings == {"words": "red, green", "threshold": 0.5, "paused": False}

    home.say("garden/set/words", "blue, red")
    home.wait_for("garden/label/blue")
    home.wait_for("garden/label/green", b"")  # the topic of a removed word is deleted
    home.wait_for("homeassistant/binary_sensor/zeroseg_garden/present_green/config", b"")
    assert json.loads(home.heard["garden/settings"])["words"] == "blue, red"
    home.say("garden/set/threshold", "1.5")
    wait_until(lambda: not json.loads(home.heard["garden/label/red"])["present"])
    assert json.loads(home.heard["garden/label/red"]) == {"label": "red", "present": False, "area": 0.0, "score": None}
    home.say("garden/set/threshold", "warm")
    home.wait_for("garden/problem", b"threshold: expected -1 to 2, or default; got 'warm'")
    home.say("garden/set/words", " , ")
    home.wait_for("garden/problem", b"words: expected 1 to 200 words, got 0")
    home.say("garden/set/words", b"\xff\xfe")
    wait_until(lambda: home.heard["garden/problem"].startswith(b"words: 'utf-8' codec"))
    home.say("garden/set/threshold", "default")
    wait_until(lambda: json.loads(home.heard["garden/label/red"])["present"])
    home.wait_for("garden/problem", b"")
    home.say("garden/set/pause", "ON")
    wait_until(lambda: pipeline.settings.paused and json.loads(home.heard["garden/settings"])["paused"])
    home.say("garden/set/snapshot", "")
    with Image.open(io.BytesIO(home.wait_for("garden/snapshot"))) as snapshot:
        assert snapshot.format == "JPEG" and snapshot.size == (160, 96)
    home.say("garden/set/pause", "OFF")
    wait_until(lambda: not pipeline.settings.paused)
    end(pipeline)
    home.wait_for("garden/status", b"offline")
    assert said == [f"mqtt://127.0.0.1:{broker.port}: connected"] and not pipeline.error


def test_every_word_is_announced_to_home_assistant(mosquitto, listen, watch):
    """The keys are those of Home Assistant's MQTT discovery documentation; the topics are those in use."""
    broker = mosquitto()
    watch(broker.port)
    home = listen(broker.port)
    home.wait_for("garden/label/green")
    home.wait_for("homeassistant/camera/zeroseg_garden/picture/config")
    entities = {
        topic.split("/")[1] + "." + topic.split("/")[3]: json.loads(payload)
        for topic, payload in home.heard.items()
        if topic.startswith("homeassistant/")
    }
    assert set(entities) == {
        "binary_sensor.present_red",
        "binary_sensor.present_green",
        "sensor.area_red",
        "sensor.area_green",
        "text.words",
        "number.threshold",
        "switch.pause",
        "button.snapshot",
        "camera.picture",
        "sensor.problem",
    }
    assert len({entity["unique_id"] for entity in entities.values()}) == len(entities)
    for entity in entities.values():
        assert entity["device"]["identifiers"] == ["zeroseg_garden"]
        assert entity["availability_topic"] == "garden/status"
        state = entity.get("state_topic", "garden/status")
        assert state in home.heard or state == "garden/problem"  # a broker does not retain an empty message
        if "value_template" in entity:
            value = entity["value_template"].removeprefix("{{ ").removesuffix(" }}").split("value_json.")[1].split()[0]
            assert value in json.loads(home.heard[state])
    presence = entities["binary_sensor.present_red"]
    assert presence["state_topic"] == "garden/label/red" and "'ON' if value_json.present" in presence["value_template"]
    assert entities["text.words"]["command_topic"] == "garden/set/words"


def test_a_broker_that_dies_slows_nothing_and_gets_all_states_again(mosquitto, listen, watch):
    broker = mosquitto()
    pipeline, kept, said = watch(broker.port, snapshot="change")
    listen(broker.port).wait_for("garden/label/red")
    broker.kill()
    wait_until(lambda: any("lost" in line for line in said))
    pipeline.change(pack=color_pack(["blue", "red"]))
    before, start_s = len(kept.outputs), time.monotonic()
    wait_until(lambda: len(kept.outputs) >= before + 20)
    assert time.monotonic() - start_s < 10, "20 pictures at 20 fps took too long without a broker"
    broker.start()
    home = listen(broker.port)
    for topic in ("status", "settings", "label/red", "label/blue"):
        home.wait_for(f"garden/{topic}")
    assert home.heard["garden/status"] == b"online" and home.heard.get("garden/label/green", b"") == b""
    home.wait_for("homeassistant/binary_sensor/zeroseg_garden/present_blue/config")
    assert json.loads(home.heard["garden/settings"])["words"] == "blue, red"
    assert said[0].endswith(": connected") and ": lost (" in said[1] and said[-1].endswith(": connected")


def test_a_hanging_broker_blocks_nothing(mosquitto):
    """Only the newest message of each topic waits, and closing takes little time."""
    broker = mosquitto()
    sender = Broker(read_address(f"mqtt://127.0.0.1:{broker.port}"), "x/status", []).start()
    wait_until(lambda: sender.connected)
    broker.process.send_signal(signal.SIGSTOP)
    try:
        start_s = time.monotonic()
        for number in range(3000):
            sender.keep(f"x/{number % 7}", b"%d" % number)
            sender.send("x/picture", bytes(1000))
        assert time.monotonic() - start_s < 2.0
        assert len(sender._waiting) <= 8
        start_s = time.monotonic()
        sender.close(seconds=0.5)
        assert time.monotonic() - start_s < 4.0
    finally:
        broker.process.send_signal(signal.SIGCONT)


def test_a_killed_process_is_offline_by_its_last_will(mosquitto, listen, color_model, tmp_path):
    color_pack(["red"]).save(tmp_path / "labels.npz")
    broker = mosquitto()
    home = listen(broker.port)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from zeroseg.cli import infer; infer()"
    arguments = ["--labels", "labels.npz", "--model", color_model, "--threads", "1", "--headless"]
    arguments += [
        "--mqtt",
        f"mqtt://127.0.0.1:{broker.port}",
        "--mqtt-topic",
        "house/hall",
        "--mqtt-snapshot",
        "change",
    ]
    command = [sys.executable, "-c", code, PATTERN, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        home.wait_for("house/hall/label/red", seconds=60)
        with Image.open(io.BytesIO(home.wait_for("house/hall/snapshot"))) as snapshot:
            assert snapshot.size == (160, 96)
        assert home.heard["house/hall/status"] == b"online"
    finally:
        process.kill()
        output = process.communicate()[0].decode()
    home.wait_for("house/hall/status", b"offline")
    assert "Traceback" not in output and f"mqtt://127.0.0.1:{broker.port}: connected" in output


def test_passwords_and_tls(mosquitto, listen, tmp_path, monkeypatch):
    openssl, passwd = shutil.which("openssl"), shutil.which("mosquitto_passwd")
    if not openssl or not passwd:
        pytest.skip("openssl or mosquitto_passwd is not installed")
    quiet = {"check": True, "capture_output": True, "cwd": tmp_path}
    subprocess.run([passwd, "-b", "-c", "users", "ann", "s3cret"], **quiet)
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "cert", *subject], **quiet
    )
    os.chmod(tmp_path / "users", 0o644)
    broker = mosquitto(
        f"password_file {tmp_path / 'users'}",
        port_lines=[f"certfile {tmp_path / 'cert'}", f"keyfile {tmp_path / 'key'}"],
    )
    (tmp_path / "login").write_text("ann\ns3cret\n")
    url = f"mqtts://127.0.0.1:{broker.port}"

    def said_by(**options):
        said = []
        sender = Broker(read_address(url, **options), "x/status", [], said.append).start()
        wait_until(lambda: said)
        sender.close(0.1)
        return said[0].removeprefix(f"{url}: ")

    ca_file = tmp_path / "cert"
    assert said_by(login_file=tmp_path / "login", ca_file=ca_file) == "connected"
    monkeypatch.setenv("ZEROSEG_MQTT_USER", "ann")
    monkeypatch.setenv("ZEROSEG_MQTT_PASSWORD", "wrong")
    assert said_by(ca_file=ca_file) == "refused (Not authorized); trying again"
    monkeypatch.setenv("ZEROSEG_MQTT_PASSWORD", "s3cret")
    assert said_by(ca_file=ca_file) == "connected"
    assert said_by() == "cannot be reached; trying again"  # no trusted authority signed its certificate


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mqtt", "http://x"], "--mqtt: expected mqtt://host[:port] or mqtts://host[:port], got 'http://x'"),
        (["--mqtt", "mqtt://x:99999"], "--mqtt: expected mqtt://host[:port] or mqtts://host[:port] (Port out of range"),
        (["--mqtt", "mqtt://ann:s3cret@x"], "--mqtt: others can see a password on the command line; use --mqtt-login"),
        (["--mqtt", "mqtt://x", "--mqtt-login", "none"], "--mqtt-login none: cannot be read (No such file"),
        (["--mqtt", "mqtt://x", "--mqtt-ca", "none"], "--mqtt-ca: only for mqtts://, which is encrypted"),
        (["--mqtt", "mqtts://x", "--mqtt-ca", "none"], "--mqtt-ca none: no such file"),
        (["--mqtt", "mqtt://x", "--mqtt-topic", "a/#"], "--mqtt-topic: expected a name such as garden or house/garden"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(infer, ["test://", "--labels", "cat", "--headless", *arguments])
    assert done.exit_code == 1 and done.output.startswith(f"Error: {message}"), done.output
    assert "s3cret" not in done.output
