"""Class lists as labelme, ultralytics and people write them; each mask value with the name it must get."""

import pytest

from zeroseg.errors import ZerosegError
from zeroseg.evaluation.class_files import IGNORE, UNKNOWN, read_class_file


def meanings(tmp_path, name: str, text: str) -> tuple[dict[int, str], str | None]:
    """{mask value: class name, or "-" where it is not counted}, and the background's name."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    names, background, table = read_class_file(path)
    found = {int(i): names[table[i]] if table[i] != IGNORE else "-" for i in range(256) if table[i] != UNKNOWN}
    assert found.pop(255) == "-"
    return found, None if background is None else names[background]


CATS = {0: "background", 1: "cat", 2: "wine glass"}


@pytest.mark.parametrize(
    ("text", "expected", "background"),
    [
        ("background\ncat\nwine glass\n", CATS, "background"),
        ("_background_\ncat\nwine glass\n", CATS, "background"),
        ("__background__\ncat\nwine glass", CATS, "background"),
        ("__ignore__\n_background_\ncat\nwine glass\n", CATS, "background"),
        ("\ufeffbackground\r\ncat\r\nwine glass\r\n\r\n", CATS, "background"),
        ("cat\n\ndog\n", {0: "cat", 2: "dog"}, None),
        ("tree  # tall\nc#\nno\n", {0: "tree", 1: "c#", 2: "no"}, None),
        ("cat\n__ignore__\ndog\n", {0: "cat", 1: "-", 2: "dog"}, None),
        ("unlabeled\ncat\n", {0: "-", 1: "cat"}, None),
        ("cat\nBackground\n", {0: "cat", 1: "background"}, "background"),
    ],
)
def test_lines(tmp_path, text, expected, background):
    assert meanings(tmp_path, "classes.txt", text) == (expected, background)


@pytest.mark.parametrize(
    "text",
    [
        "classes:\n  0: background\n  1: cat\n  2: wine glass\n",
        "# mine\nclasses:\n  0: background\n\n  # animals\n  1: cat  # small\n  2: 'wine glass'\nmore: 1\n",
        "nc: 3\nnames: [background, cat, wine glass]\n",
        "names:\n- background\n- cat\n- wine glass\n",
        "names: {0: _background_, 1: cat, 2: wine glass}\n",
        "- background\n- cat\n- wine glass\n",
        "0: background\n2: wine glass\n1: cat\n",
        "classes:\n- {id: 1, name: cat}\n- {id: 0, name: background}\n- {id: 2, name: wine\n    glass}\n",
        '{"classes": ["background", "cat", "wine glass"]}',
        "classes:\n  -1: __ignore__\n  0: background\n  1: cat\n  2: wine glass\n",
    ],
)
def test_yaml(tmp_path, text):
    assert meanings(tmp_path, "classes.yaml", text) == (CATS, "background")


def test_yaml_names_are_text_whatever_they_look_like(tmp_path):
    assert meanings(tmp_path, "c.yml", "names: [no, on, 3, null, 'c # d']\n")[0] == {
        0: "no", 1: "on", 2: "3", 3: "null", 4: "c # d",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", "cat\n# pets\ndog\n", "line 2 is only a comment, but line numbers are ids"),
        ("c.txt", "cat\ndog\ncat\n", "ids 0 and 2 are both called 'cat'; give them different names"),
        ("c.txt", "background\n_background_\n", "ids 0 and 1 are both called 'background'"),
        ("c.txt", "\n\n", "ids 0..254, got none"),
        ("c.txt", "x\n" * 0 + "\n".join(f"c{i}" for i in range(256)), "ids 0..254, got 0 to 255"),
        ("c.yaml", "classes:\n  0: cat\n  0: dog\n", "line 3: id 0 occurs twice"),
        ("c.yaml", "classes:\n  cat: 0\n", "line 2: expected 'classes:' followed by"),
        ("c.yaml", "classes:\n  0:\n", "line 2: expected"),
        ("c.yaml", "classes: [a, b\n", "is not YAML: .* in line 2"),
        ("c.yaml", "", "expected 'classes:' .*, got none"),
        ("c.yaml", "classes:\n  -1: cat\n  0: dog\n", "ids 0..254, got -1 to 0"),
    ],
)
def test_wrong_lists_are_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ZerosegError, match=message) as caught:
        read_class_file(tmp_path / name)
    assert "\n" not in str(caught.value)
