"""training/compare.py: which contenders there are, and what it says when one cannot be had."""

import pytest

from zeroseg.errors import ZerosegError
from zeroseg.training.compare import _contenders
from zeroseg.training.recipes import RECIPES

RECIPE = RECIPES["dense"].changed("teacher.conse.worn_gain=1.5")


@pytest.mark.parametrize(
    "wanted, line",
    [
        (
            ("student", "teacher"),
            "contenders: expected some of conse, diffused, probed, recipe, student, got student, te",
        ),
        (("probed",), "contenders: probed needs --probe, a file that training/person_probe.py wrote"),
    ],
)
def test_contender_that_cannot_be_had_is_named(wanted, line):
    with pytest.raises(ZerosegError, match=line):
        next(_contenders(wanted, None, "no-teacher", "no-labels", ["cat"], RECIPE, None))


def test_probe_goes_to_probed_alone(monkeypatch, tmp_path):
    """diffused is what the first run was taught, probed what the second was: they differ by the probe only."""
    asked = []
    monkeypatch.setattr("zeroseg.training.compare._teacher", lambda config, labels: asked.append(config))
    monkeypatch.setattr("zeroseg.training.compare._stem", lambda recipe, weights: (None, None))
    monkeypatch.setattr("zeroseg.training.compare.TeacherPredict", lambda *given: given)
    names = [
        name for name, _ in _contenders(("probed", "diffused"), None, "weights", "labels", ["cat"], RECIPE, tmp_path)
    ]
    assert names == ["diffused", "probed"]
    assert [config.probe for config in asked] == [None, str(tmp_path)]
    assert {config.conse for config in asked} == {RECIPE.teacher.conse}
