"""When a word counts as present, and which changes are reported."""

from zeroseg.home.discovery import slug
from zeroseg.home.presence import Presence, State


def test_presence_holds_through_flicker_and_ends_after_the_hold_time():
    presence = Presence(hold_s=2.0, least_area=0.01)
    seen = {"cat": (0.2, 0.3)}
    assert presence.update(0.0, ["cat"], {}) == {"cat": State()}
    assert presence.update(1.0, ["cat"], seen) == {"cat": State(True, 0.2, 0.3)}  # at once
    assert presence.update(1.5, ["cat"], {}) == {}
    assert presence.update(2.9, ["cat"], seen) == {}
    assert presence.update(4.8, ["cat"], {}) == {}
    assert presence.update(4.9, ["cat"], {}) == {"cat": State()}
    assert presence.update(9.0, ["cat"], {}) == {}


def test_small_regions_do_not_count():
    presence = Presence(hold_s=0.0, least_area=0.01)
    assert presence.update(0.0, ["cat"], {"cat": (0.0099, 0.9)})["cat"] == State()
    assert presence.update(1.0, ["cat"], {"cat": (0.01, 0.9)})["cat"].present
    without = Presence(hold_s=0.0, least_area=0.0)
    assert not without.update(0.0, ["cat"], {})["cat"].present


def test_changes_while_present_are_reported_once_per_hold_time():
    presence = Presence(hold_s=2.0, least_area=0.01)
    presence.update(0.0, ["cat"], {"cat": (0.20, 0.30)})
    assert presence.update(1.0, ["cat"], {"cat": (0.50, 0.30)}) == {}  # too soon
    assert presence.update(2.0, ["cat"], {"cat": (0.209, 0.31)}) == {}  # too little
    assert presence.update(3.0, ["cat"], {"cat": (0.50, 0.30)}) == {"cat": State(True, 0.50, 0.30)}
    assert presence.update(4.0, ["cat"], {"cat": (0.60, 0.30)}) == {}
    assert presence.update(5.0, ["cat"], {"cat": (0.60, 0.30)}) == {"cat": State(True, 0.60, 0.30)}
    assert presence.update(7.0, ["cat"], {"cat": (0.60, 0.25)}) == {"cat": State(True, 0.60, 0.25)}


def test_words_are_added_and_removed():
    presence = Presence(hold_s=2.0)
    presence.update(0.0, ["cat", "dog"], {"dog": (0.5, 0.5)})
    assert presence.update(0.1, ["dog", "sofa"], {"dog": (0.5, 0.5)}) == {"sofa": State()}
    assert presence.states == {"dog": State(True, 0.5, 0.5), "sofa": State()}
    assert presence.update(0.2, ["cat"], {}) == {"cat": State()}


def test_slugs_have_allowed_characters_and_differ():
    names = ["cat", "Cat", "polar bear", "polar_bear", "Ärmel", "犬", "猫", "a/b", "x" * 90]
    slugs = [slug(name) for name in names]
    assert slugs[0] == "cat" and len(set(slugs)) == len(names)
    for text in slugs:
        assert text and len(text) <= 47 and set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
