"""Take the README's picture of the page: docs/photos/page.jpg.

A video that pans over one of the repository's photos is played to the page in a real Chromium. The screenshot is taken
when the model has found the labels. The figures in the picture include the load of the browser.

    python bench/page_picture.py
"""

import sys
import tempfile
import time
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
try:
    import zeroseg  # noqa: F401 (whether it is there)
except ModuleNotFoundError:  # run from a checkout that is not installed
    sys.path.append(str(ROOT))

PHOTO = "pagoda.jpg"
FOUND, ABSENT = ("building",), ("boat", "dog")
SIZE, RATE, SECONDS = (640, 360), 25, 8


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path), default=ROOT / "docs" / "photos" / "page.jpg")
@click.option("--threads", type=click.IntRange(1), default=2, metavar="N", help="Of the network.")
@click.option("--seconds", type=click.FloatRange(1), default=6, metavar="S", help="Wait before the picture is taken.")
@click.option("--quality", type=click.IntRange(1, 95), default=88, metavar="1..95", help="Of the JPEG.")
def main(out, threads, seconds, quality):
    """Play a panned video of a photo to the page and take a screenshot of 1280x800.

    \b
    Example:
      python bench/page_picture.py page.jpg
    """
    from zeroseg.commands.command import user_errors
    from zeroseg.live.memory import limit_arenas
    from zeroseg.live.pipeline import Pipeline
    from zeroseg.live.server import Server
    from zeroseg.live.sources import open_source
    from zeroseg.segment.segmenter import Segmenter

    limit_arenas()  # as the commands do
    segmenter = Segmenter.load(threads=threads).set_labels([*FOUND, *ABSENT])
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder) / "camera.mp4")
        source = open_source(str(clip), pace=True, loop=True)
        source.name = "camera.mp4"
        pipeline = Pipeline(source, segmenter, smoothing_s=0.3)
        server = Server(segmenter, pipeline, "127.0.0.1", 0).start()
        pipeline.start()
        try:
            with user_errors():
                photograph(server.address, out, seconds, quality)
        finally:
            server.stop()
            pipeline.stop()
            pipeline.join(10)
            pipeline.close()
    click.echo(f"wrote {out}")


def write_clip(path: Path) -> Path:
    """A camera that goes to and fro over the photo, nearer and farther."""
    import math

    import av
    import numpy as np
    from PIL import Image

    photo = Image.open(ROOT / "docs" / "photos" / PHOTO).convert("RGB")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for i in range(RATE * SECONDS):
            turn = 2 * math.pi * i / (RATE * SECONDS)
            width = photo.width * (0.92 + 0.05 * math.cos(2 * turn))
            height = width * SIZE[1] / SIZE[0]
            left, top = (photo.width - width) * (0.5 + 0.5 * math.sin(turn)), (photo.height - height) / 2
            picture = photo.resize(SIZE, Image.Resampling.LANCZOS, box=(left, top, left + width, top + height))
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def photograph(address: str, out: Path, seconds: float, quality: int) -> None:
    """Wait until all words of FOUND have an area, and take the picture."""
    import shutil

    from playwright.sync_api import sync_playwright

    from zeroseg.errors import ZerosegError

    with sync_playwright() as runtime:
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = runtime.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        page.wait_for_timeout(1000 * seconds)
        end = time.monotonic() + 60
        while set(page.locator("#legend tr:not(.absent) td:nth-child(2)").all_inner_texts()) != set(FOUND):
            if time.monotonic() > end:
                raise ZerosegError(f"the model did not find {' and '.join(FOUND)} within a minute")
            page.wait_for_timeout(40)
        page.screenshot(path=out, type="jpeg", quality=quality)
        browser.close()


if __name__ == "__main__":
    main()
