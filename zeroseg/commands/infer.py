"""zeroseg-infer: overlay, label map and JSON of photos; also for cameras, videos and streams."""

from pathlib import Path
from typing import NamedTuple

import click

from zeroseg.commands.backend import backend_option
from zeroseg.commands.command import Command
from zeroseg.commands.live_options import LOOK, MQTT, NAMES, NETWORK, SERVER, SOURCE, VIDEO_FILES, options
from zeroseg.commands.reading import reading_options
from zeroseg.commands.threshold import threshold_option
from zeroseg.formats.kinds import FORMATS

KINDS = ("overlay", "labels", "json", "contact", *FORMATS)
PHOTO_KINDS = "overlay,labels,json"  # what photos get by default


class Save(NamedTuple):
    """--save, read: kinds of files, and the video to write."""

    kinds: tuple[str, ...]
    video: Path | None = None


class SaveList(click.ParamType):
    """A comma-separated choice of what to write, with at most one video file among it."""

    name = "kinds"

    def convert(self, value, param, ctx):
        if isinstance(value, Save):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()]
        videos = [part for part in parts if Path(part).suffix.lower() in VIDEO_FILES]
        kinds = tuple(part for part in parts if part not in videos)
        if not parts or len(videos) > 1 or any(kind not in KINDS for kind in kinds):
            self.fail(
                f"expected one or more of {', '.join(KINDS)}, or a video file ({', '.join(VIDEO_FILES)}), "
                f"got {value!r}",
                param,
                ctx,
            )
        return Save(kinds, Path(videos[0]) if videos else None)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", nargs=-1, metavar="SOURCE...")
# What to look for
@click.option(
    "--labels",
    required=True,
    metavar="WORDS",
    help='List with commas, @FILE with one label per line (" #" begins a comment), or labels.npz.',
)
@click.option(
    "--text",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Source of the label vectors: auto, words (the bundled table), open_clip, open_clip:FILE, or a labels.npz.",
)
@threshold_option
@click.option(
    "--edges",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Whether the masks of photos follow the photo's edges.",
)
# What to write
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="zeroseg-out",
    show_default=True,
    metavar="DIR",
    help="Folder for the results; created if needed. Only files that zeroseg wrote are replaced.",
)
@click.option(
    "--save",
    type=SaveList(),
    metavar="KINDS|VIDEO",
    help="overlay, labels (label-map PNG), json, contact (a sheet of all overlays); a dataset of all photos: "
    f"{', '.join(FORMATS)}; or a video file, such as out.mp4.  [default: {PHOTO_KINDS}; for a video, a video]",
)
@click.option("--jsonl", metavar="FILE", help="Write one JSON line per frame; - for standard output.")
@click.option("--rle", is_flag=True, help="Include the masks in --jsonl, as COCO RLE.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="0..1",
    help="Opacity of the overlay.",
)
# Cameras, videos, streams
@options(SOURCE, LOOK)
@click.option("--headless", is_flag=True, help="Do not open a window for a camera or stream.")
@click.option("--serve", is_flag=True, help="Show the live picture on a web page where you can change the words.")
@options(SERVER, MQTT)
# How to run
@click.option(
    "--model",
    metavar="FILE|NAME",
    help="Model file (.onnx, .pt), open_clip:ARCH/TAG, radio:VERSION or a bundled name.  [default: bundled]",
)
@reading_options
@backend_option
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: all this process may use]"
)
@options(NETWORK)
@click.pass_context
def infer(ctx, sources, save, edges, **given):
    """Find what you name in photos, videos, cameras and streams.

    SOURCE is an image, a folder of images, a glob in quotes, a video file, an address (rtsp://, http:// of an MJPEG
    camera, csi://0 on a Jetson), or test://, a moving test pattern. A folder with --save VIDEO becomes a video. A word
    outside the model's vocabulary gets an approximate meaning and the mark ~.

    \b
    Example:
      zeroseg-infer photo.jpg --labels "cat,sofa,houseplant"
      zeroseg-infer holiday/ "more/*.png" --labels @words.txt --out found --save overlay,contact
      zeroseg-infer clip.mp4 --labels "cat,dog" --save out.mp4
      zeroseg-infer --camera 0 --labels "cat,dog" --serve
    """
    import time

    started = time.perf_counter()
    from zeroseg.commands.infer_run import InferOptions, run_infer
    from zeroseg.commands.photo_files import local_pictures
    from zeroseg.live.kinds import kind_of

    sources = list(sources)
    if given["camera"] is not None:
        sources.append(_camera(given["camera"]))
    if not sources:
        raise click.UsageError("Missing argument 'SOURCE...': a picture, folder, video or address, or --camera 0")
    sources = local_pictures(sources, given["out"])
    moving = any(kind_of(source) != "pictures" for source in sources)
    photo_options = {
        name: given[name]
        for name in (
            "labels",
            "text",
            "threshold",
            "out",
            "alpha",
            "legend",
            "model",
            "backend",
            "threads",
            "short_side",
        )
    }
    if not (moving or (save and save.video) or given["jsonl"] or given["serve"]):
        for name in (*NAMES["source"], *NAMES["look"], *NAMES["server"], *NAMES["mqtt"], "rle", "headless"):
            if name not in photo_options and ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError(
                    f"--{name.replace('_', '-')}: only for cameras, videos and streams, or with "
                    "--save VIDEO, --jsonl or --serve"
                )
        kinds = save.kinds if save else tuple(PHOTO_KINDS.split(","))
        failed = run_infer(sources, InferOptions(save=kinds, edges=edges, **photo_options), started)
        raise SystemExit(1 if failed else 0)
    if ctx.get_parameter_source("edges") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--edges: only for photos; masks of cameras, videos and streams do not follow edges")
    from zeroseg.commands.live_run import LiveOptions, run_live

    for kind in save.kinds if save else ():
        if kind not in ("overlay", "labels"):
            raise click.BadParameter(
                f"{kind} is for photos; use overlay, labels or a video file, and --jsonl FILE", param_hint="--save"
            )
    run_live(
        sources, LiveOptions(save=save.kinds if save else (), video=save.video if save else None, **given), started
    )


def _camera(text: str) -> str:
    return text if text.isdecimal() or "/" in text or "://" in text else f"/dev/{text}"


if __name__ == "__main__":
    infer()
