"""The README's picture of the page is taken as its docstring says: the model finds what is named, in a real browser."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zeroseg.artifact import BUNDLED
from zeroseg.drawing import label_colors

pytest.importorskip("av")
pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BUNDLED / "tiny.onnx").is_file(), reason="this checkout has no bundled model"),
]


def test_what_it_names_is_found(tmp_path):
    from zeroseg.bench.page_picture import FOUND, main

    done = CliRunner().invoke(main, [str(tmp_path / "page.jpg"), "--seconds", "1", "--threads", "1"])
    if isinstance(done.exception, playwright.Error):
        pytest.skip(f"no Chromium can be started (apt install chromium): {str(done.exception).splitlines()[0]}")
    assert done.exit_code == 0, done.output
    picture = np.asarray(Image.open(tmp_path / "page.jpg")).astype(int)
    assert picture.shape == (800, 1280, 3)
    for color in label_colors(list(FOUND)).astype(int):  # segments' outlines, in full colour, on the stage
        assert (np.abs(picture[:, :900] - color).max(-1) < 40).sum() > 200
