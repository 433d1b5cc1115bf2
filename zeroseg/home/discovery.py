"""The MQTT topics, and the messages that describe them to Home Assistant's discovery.

Below the base topic:

    status              online or offline (retained; the broker publishes offline if zeroseg dies)
    label/SLUG          {"label", "present", "area" in percent of the picture, "score"} (retained)
    settings            {"words", "threshold", "paused"} (retained)
    snapshot            a JPEG with masks
    problem             why the last command was refused; empty if it was accepted (retained)
    set/words, set/threshold, set/pause, set/snapshot   commands
"""

import hashlib
import json
import re
import unicodedata

from zeroseg import __version__

PREFIX = "homeassistant"
COMMANDS = ("words", "threshold", "pause", "snapshot")
WORDS_MAX_CHARS = 255  # the limit of a text entity


def slug(name: str) -> str:
    """The name with only the characters that discovery allows: a-z, 0-9, _, -. Different names get different slugs."""
    plain = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
    text = re.sub(r"[^a-z0-9-]+", "_", plain).strip("_")[:40]
    if text != name:
        text = f"{text}_{hashlib.sha256(name.encode()).hexdigest()[:6]}".strip("_")
    return text


def label_topic(topic: str, label: str) -> str:
    """The topic of a label's state."""
    return f"{topic}/label/{slug(label)}"


def label_entities(topic: str, label: str) -> dict[str, dict]:
    """Discovery topic -> configuration, for a label's two sensors: presence and area."""
    state = label_topic(topic, label)
    presence = {
        "name": label,
        "state_topic": state,
        "value_template": "{{ 'ON' if value_json.present else 'OFF' }}",
        "json_attributes_topic": state,
        "icon": "mdi:eye",
    }
    area = {
        "name": f"{label} area",
        "state_topic": state,
        "value_template": "{{ value_json.area }}",
        "unit_of_measurement": "%",
        "state_class": "measurement",
        "suggested_display_precision": 1,
        "icon": "mdi:texture-box",
    }
    return dict(
        [
            _entity(topic, "binary_sensor", f"present_{slug(label)}", presence),
            _entity(topic, "sensor", f"area_{slug(label)}", area),
        ]
    )


def device_entities(topic: str) -> dict[str, dict]:
    """Discovery topic -> configuration, for the entities of the device: words, threshold, pause, snapshot, problem."""
    settings, problem = f"{topic}/settings", f"{topic}/problem"
    entities = [
        ("text", "words", {"name": "words", "max": WORDS_MAX_CHARS, "value_template": "{{ value_json.words }}"}),
        (
            "number",
            "threshold",
            {
                "name": "threshold",
                "min": -1,
                "max": 2,
                "step": 0.01,
                "mode": "box",
                "value_template": "{{ value_json.threshold }}",
            },
        ),
        ("switch", "pause", {"name": "pause", "value_template": "{{ 'ON' if value_json.paused else 'OFF' }}"}),
    ]
    entities = [(kind, name, {**about, "state_topic": settings}) for kind, name, about in entities]
    entities = [(kind, name, {**about, "command_topic": f"{topic}/set/{name}"}) for kind, name, about in entities]
    entities += [
        ("button", "snapshot", {"name": "take a snapshot", "command_topic": f"{topic}/set/snapshot"}),
        ("camera", "picture", {"name": "snapshot", "topic": f"{topic}/snapshot"}),
        ("sensor", "problem", {"name": "problem", "state_topic": problem, "entity_category": "diagnostic"}),
    ]
    return dict(_entity(topic, *entity) for entity in entities)


def _entity(topic: str, kind: str, name: str, about: dict) -> tuple[str, dict]:
    node = f"zeroseg_{slug(topic)}"
    document = {
        **about,
        "unique_id": f"{node}_{name}",
        "availability_topic": f"{topic}/status",
        "device": {
            "identifiers": [node],
            "name": topic,
            "manufacturer": "zeroseg",
            "model": "words on a camera",
            "sw_version": __version__,
        },
    }
    return f"{PREFIX}/{kind}/{node}/{name}/config", document


def as_json(document: dict) -> bytes:
    """A document as a payload: JSON in UTF-8."""
    return json.dumps(document, ensure_ascii=False).encode()
