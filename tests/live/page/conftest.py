"""A real Chromium on the page of a server with a test pattern, and what stands on its screen."""

import io
import json
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

from tests.live.conftest import color_pack
from zeroseg.live.pattern import TestPattern
from zeroseg.live.pipeline import Pipeline
from zeroseg.live.sources import open_source
from zeroseg.segment.segmenter import Segmenter

WAIT_MS = 30_000
SIZE = (320, 192)
JPEG = 4  # mean difference of 255 between a picture and its JPEG, scaled on the screen and back
PURE = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)])  # the pattern's shapes, in the order of its labels


@pytest.fixture
def serve(color_segmenter, color_words, tmp_path):
    """serve(source, its address or None) -> (server, pipeline or None), running. Photos in tmp_path outlive them."""
    from zeroseg.live.server import Server

    running = []

    def serve(source=f"test://?size={SIZE[0]}x{SIZE[1]}&fps=15", **options):
        segmenter = Segmenter(color_segmenter.runner, color_segmenter.sidecar).set_labels(color_pack())
        source = open_source(source) if isinstance(source, str) else source
        pipeline = source and Pipeline(source, segmenter)
        server = Server(segmenter, pipeline, "127.0.0.1", 0, **options).start()
        running.append((server, pipeline and pipeline.start()))
        return running[-1]

    yield serve
    for server, pipeline in running:
        server.stop()
        if pipeline:
            pipeline.stop()
            assert pipeline.join(10)
            pipeline.close()


@pytest.fixture
def visit(browser):
    """visit(server) -> a page there. Afterwards nothing may have gone wrong in it, or been asked of anyone else."""
    problems, foreign, contexts = [], [], []

    def visit(server, width=1000, height=600, legend_rows=3, query="", events=None, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda request: (
                foreign.append(request.url)
                if not request.url.startswith((f"http://127.0.0.1:{server.port}/", "data:", "blob:"))
                else None
            ),
        )
        if events is not None:  # instead of the server's
            page.route("**/events", lambda route: route.fulfill(body=events, content_type="text/event-stream"))
        page.goto(f"http://127.0.0.1:{server.port}/{query}")
        if legend_rows:
            page.locator("#legend tr").nth(legend_rows - 1).wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    # the browser notes refused words itself, and a server that is not there
    assert [line for line in problems if not any(known in line for known in ("422", "401", "415"))] == []
    assert foreign == []


def wait_until(page, condition):
    end = time.monotonic() + WAIT_MS / 1000
    while not condition():
        assert time.monotonic() < end, "it never came"
        page.wait_for_timeout(20)


def shown(page, selector, size=SIZE):
    """What stands on the screen in a picture's place, without the bars beside it, scaled to (width, height) px."""
    screen = Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")
    scale = min(screen.width / size[0], screen.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left, top = (screen.width - width) / 2, (screen.height - height) / 2
    return np.asarray(screen.resize(size, box=(left, top, left + width, top + height))).astype(int)


def names(page):
    return [cell.splitlines()[0] for cell in page.locator("#legend tr td:nth-child(2)").all_inner_texts()]


def swatches(page):
    """The legend's colours, (N, 3), as they stand on the screen, by name."""
    marks = page.locator("#legend i.swatch")
    centres = [
        np.asarray(Image.open(io.BytesIO(marks.nth(i).screenshot())).convert("RGB"))[8, 8].astype(int)
        for i in range(marks.count())
    ]
    return dict(zip(names(page), centres))


def shapes(picture):
    """Median colour, on the screen, of where the pattern's three shapes are in a plain (H, W, 3) picture: a function of
    what is shown. Their edges, which are drawn in full colour, are left out.
    """
    masks = [(np.abs(picture.astype(int) - pure).max(-1) < 60) for pure in PURE]
    inner = []
    for mask in masks:
        inside = mask.copy()
        for axis in (0, 1):
            for step in (-4, 4):
                inside &= np.roll(mask, step, axis)
        assert inside.sum() > 50
        inner.append(inside)
    return lambda screen: [np.median(screen[inside], axis=0) for inside in inner]


def near(colors, others):
    return all(np.abs(np.asarray(a) - b).max() <= 16 for a, b in zip(colors, others, strict=True))  # JPEG


def put_labels(server, labels):
    """As another viewer does."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/labels",
        json.dumps({"labels": labels}).encode(),
        {"Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request).close()


@pytest.fixture
def photo(tmp_path):
    """(path, plain picture) of a photo with the three shapes."""
    picture = TestPattern("test://?size=160x96").picture(30)
    Image.fromarray(picture).save(tmp_path / "scene.png")
    return tmp_path / "scene.png", picture
