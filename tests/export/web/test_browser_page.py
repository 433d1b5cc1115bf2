"""zeroseg-export --web in a real Chromium: the folder served as it is, its masks, words and downloads held to Python's.

The bundled network is used, as the page's words and masks are about it. onnxruntime-web comes from npm's registry, or
from the tarball or folder that ZEROSEG_ORT_WEB names.
"""

import http.server
import io
import json
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zeroseg.errors import UnavailableError

pytest.importorskip("onnx")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "zeroseg/bundled/tiny.onnx"
PHOTOS = ["chelsea", "coffee", "astronaut", "rocket"]
WORDS = ["cat", "sofa", "tabby", "coffee cup", "table", "astronaut", "flag", "rocket", "tower", "sky"]
SAME = 0.995  # share of pixels
LIMIT_BYTES = 30_000_000
LIMIT_S = 1.5  # of a core, for a photo of 640 x 480; the clock on the wall depends on what else runs here
WAIT_MS = 120_000
LOOKED_UP = [
    *("cat", "Cats", "bow-tie", "bow tie", "the sofa", "tabby", "sedan", "wolves", "men", "colour", "grey wolf"),
    *("firetruck", "tooth brush", "a man with a hat", "slice of pizza", "basket of apples", "horse rider", "giraff"),
    *("refridgerator", "megaraincoat", "dog's bed", "café", "Straße", "bat (animal)", "old wooden chair", "🐕", "⭐"),
    *("person riding a horse", "children", "moustache", "river", "pair of shoes", "smartphone", "tyres", "qqqq lamp"),
]  # fmt: skip
LOOK_UP = """async (words) => {
  const from = (name) => import(new URL(name, location));
  const [{readNpz}, {WordTable}, {readWord}] = [await from("npz.js"), await from("table.js"), await from("lookup.js")];
  const table = new WordTable(await readNpz(new Uint8Array(await (await fetch("words.npz")).arrayBuffer())));
  return words.map((word) => readWord(table, word)).map((found) => ({...found, vector: [...found.vector]}));
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder that the command writes. Only one photo is compared here: the test below compares four."""
    from zeroseg.export.cli import main
    from zeroseg.export.web.runtime import runtime_files

    given = os.environ.get("ZEROSEG_ORT_WEB")
    folder = tmp_path_factory.mktemp("web")
    try:
        for name, data in runtime_files(Path(given) if given else None).items():
            (folder / name).write_bytes(data)
    except UnavailableError as error:
        pytest.skip(str(error))
    own = {"ort.js": "ort.jspi.min.mjs"} | {
        f"ort-wasm.{end}": f"ort-wasm-simd-threaded.jspi.{kind}" for end, kind in (("js", "mjs"), ("wasm", "wasm"))
    }
    (folder / "dist").mkdir()
    for name, before in own.items():
        (folder / name).rename(folder / "dist" / before)
    photo = ROOT / "export/photos/chelsea.jpg"
    arguments = [MODEL, "--web", folder / "site", "--ort-web", folder, "--photo", photo]
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert f"wrote {folder / 'site'}" in done.output and "same label on " in done.output
    return folder / "site"


@pytest.fixture
def plain_server(site):
    """python -m http.server, as the docs say: no headers of ours."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        yield process.stdout.readline().split("(")[1].split("/)")[0] + "/"
        process.kill()


@pytest.fixture
def isolating_server(site):
    """With the two headers that allow threads."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self):
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def open_page(browser, address, script=None):
    """(page, requests, problems), the page ready for photos."""
    page, requests, problems = browser.new_page(viewport={"width": 1000, "height": 620}), [], []
    page.set_default_timeout(WAIT_MS)
    page.on("request", lambda request: requests.append(request))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    if script:
        page.add_init_script(script)
    page.goto(address)
    page.locator("#choose:enabled, #notice.bad").first.wait_for()
    assert page.locator("#notice").text_content() == "" and problems == []
    return page, requests, problems


def figures(page):
    names, values = (page.locator(f"#figures {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(names, values))


def show(page, path):
    page.set_input_files("#file", path)
    page.locator("#figures", has_text=Path(path).name).wait_for()
    page.locator("#notice", has_text="Segmenting").wait_for(state="hidden")


def saved(page, button):
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def cpu_s(browser):
    """CPU time of the processes that run pages, in seconds."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(process["cpuTime"] for process in processes if process["type"] == "renderer")


def test_folder_is_small_and_complete(site):
    files = {path.relative_to(site).as_posix(): path.stat().st_size for path in site.rglob("*") if path.is_file()}
    assert sum(files.values()) <= LIMIT_BYTES
    assert {"index.html", "model.onnx", "words.npz", "ort/ort-wasm.wasm", "NOTICE.txt"} <= set(files)
    texts = [path.read_text(encoding="utf-8") for path in site.glob("*.*") if path.suffix in (".html", ".css", ".js")]
    assert not [text for text in texts if "http://" in text or "https://" in text]


def test_page_gives_the_masks_of_zeroseg_infer(site, browser, plain_server, tmp_path):
    """On a server without headers, in a browser without the switching of stacks that only a WebGPU needs."""
    from zeroseg.commands.infer import infer

    photos = [ROOT / f"docs/photos/{name}.jpg" for name in PHOTOS]
    arguments = [*photos, "--labels", ",".join(WORDS), "--out", tmp_path, "--save", "labels,json"]
    done = CliRunner().invoke(infer, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    without = "for (const name of ['Suspending', 'promising', 'SuspendError']) delete WebAssembly[name];"
    page, requests, problems = open_page(browser, plain_server, without)
    _check_words(page)
    asked = len(requests)
    page.fill("#labels", ", ".join(WORDS))
    for photo in photos:
        show(page, photo)
        expected = json.loads((tmp_path / f"{photo.stem}.json").read_text(encoding="utf-8"))
        _check_downloads(page, photo, expected, np.asarray(Image.open(tmp_path / f"{photo.stem}_labels.png")))
    _check_words_need_no_network(page)
    _check_speed(browser, page, tmp_path)
    (tmp_path / "notes.jpg").write_text("no picture")
    page.set_input_files("#file", tmp_path / "notes.jpg")
    page.locator("#wrong", has_text="notes.jpg is no picture").wait_for()
    assert [r.url for r in requests[asked:] if not r.url.startswith("blob:")] == [] and problems == []
    assert all(r.method == "GET" and r.url.startswith((plain_server, "data:", "blob:")) for r in requests)
    assert figures(page)["runs on"] == "WebAssembly, 1 thread"
    _check_nothing_gets_out(page, problems)
    page.close()


def _check_words(page):
    """The page's vectors, marks and nearest names of many spellings are Python's."""
    from zeroseg import embed_labels

    pack = embed_labels(LOOKED_UP)
    for i, found in enumerate(page.evaluate(LOOK_UP, LOOKED_UP)):
        assert (found["mark"], found["nearest"]) == (pack.marks[i], pack.nearest[i]), found["name"]
        assert np.array(found["vector"]) @ pack.vectors[i] > 1 - 1e-5, found["name"]
    assert {"", "~", "?"} == set(pack.marks)


def _check_downloads(page, photo, expected, label_map):
    """Masks and JSON against zeroseg-infer's, the masks of the JSON decoded by pycocotools."""
    from pycocotools import mask as coco

    name, data = saved(page, "#save-labels")
    got = np.asarray(Image.open(io.BytesIO(data)))
    assert name == f"{photo.stem}_labels.png" and got.shape == label_map.shape
    share = (got == label_map).mean()
    print(f"{photo.stem}: {100 * share:.3f} % of pixels")
    assert share >= SAME, photo.stem
    document = json.loads(saved(page, "#save-json")[1])
    for key in ("model", "threshold", "size"):
        assert document[key] == expected[key]
    for one, other in zip(document["labels"], expected["labels"], strict=True):
        assert {k: one[k] for k in one if k != "score"} == {k: other[k] for k in one if k != "score"}
        assert abs(one["score"] - other["score"]) < 0.02
    assert [one["category"] for one in document["found"]] == [one["category"] for one in expected["found"]]
    for one in document["found"]:
        mask = got == one["category_id"]
        assert (coco.decode(one["segmentation"]) == mask).all() and one["area"] == mask.sum() > 0
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y, width, height = one["bbox"]
        assert [x, y, x + width - 1, y + height - 1] == [columns[0], rows[0], columns[-1], rows[-1]]
    name, data = saved(page, "#save-picture")
    assert name == f"{photo.stem}_overlay.png" and Image.open(io.BytesIO(data)).size == label_map.shape[::-1]


def _check_words_need_no_network(page):
    """New words and another threshold give other masks, and the network has run once for each photo."""
    assert figures(page)["network runs"] == str(len(PHOTOS))
    page.fill("#labels", "spacecraft, zorgblat")
    page.locator("#legend tr", has_text="zorgblat").wait_for()
    rows = page.locator("#legend tr").all_inner_texts()
    assert len(rows) == 2 and "~spacecraft" in rows[0] and "?zorgblat" in rows[1] and "a guess" in rows[1]
    page.fill("#threshold", "0.99")
    assert page.locator("#legend tr.absent").count() == 2
    page.click("#reset")
    assert figures(page)["network runs"] == str(len(PHOTOS))
    page.fill("#labels", " , ")
    page.locator("#wrong", has_text="Type a word").wait_for()
    page.fill("#labels", ", ".join(WORDS))
    page.locator("#legend tr", has_text="tower").wait_for()


def _check_speed(browser, page, folder):
    times = []
    for i in range(3):
        path = folder / f"large-{i}.png"
        Image.open(ROOT / "docs/photos/astronaut.jpg").resize((640, 480)).save(path, compress_level=1)
        began = cpu_s(browser)
        show(page, path)
        times.append(cpu_s(browser) - began)
    print(f"640 x 480: {times} s of a core, figures {figures(page)}")
    assert 0.05 < min(times) <= LIMIT_S  # less would not be its time


def _check_nothing_gets_out(page, problems):
    """What a script in the page would send to another server is not sent."""
    came = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            came.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        tries = """async (address) => {
          const image = new Image(), script = document.createElement("script"), form = document.createElement("form");
          const seen = new Promise((done) => { image.onerror = () => done("image refused"); });
          image.src = address + "image";
          script.src = address + "script";
          document.head.append(script);
          form.action = address + "form";
          document.body.append(form);
          form.submit();
          const beacon = navigator.sendBeacon(address + "beacon", "x");
          const sent = await fetch(address + "fetch").then(() => "sent", () => "refused");
          return [sent, await seen];
        }"""
        assert page.evaluate(tries, address) == ["refused", "image refused"]
        time.sleep(0.3)
        server.shutdown()
    assert came == [] and len(problems) >= 4 and all("Content Security Policy" in line for line in problems)


def test_threads_and_the_camera(browser, isolating_server):
    page, requests, problems = open_page(browser, isolating_server)
    threads = min(4, os.cpu_count() or 1)
    assert figures(page)["runs on"] in ("WebGPU", f"WebAssembly, {threads} thread{'s' * (threads > 1)}")
    asked = len(requests)
    page.click("#live")
    page.locator("#figures", has_text="camera, 640 × 480").wait_for()
    before = int(figures(page)["network runs"])
    while int(figures(page)["network runs"]) < before + 2:
        page.wait_for_timeout(50)
    page.click("#live")
    assert page.locator("#live").inner_text() == "Camera"
    page.wait_for_timeout(1500)
    frozen, (_, data) = figures(page)["network runs"], saved(page, "#save-picture")
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert picture.shape == (480, 640, 3) and picture.std() > 5  # the camera's, not an empty one
    assert figures(page)["network runs"] == frozen
    assert [r.url for r in requests[asked:] if not r.url.startswith("blob:")] == [] and problems == []
    page.close()
