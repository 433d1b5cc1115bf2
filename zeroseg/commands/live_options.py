"""The options that zeroseg-infer and zeroseg-serve share: source of the frames, drawing, and access."""

from pathlib import Path

import click

from zeroseg.home.presence import HOLD_S, LEAST_AREA

VIDEO_FILES = (".mp4", ".mkv", ".mov", ".m4v", ".avi", ".webm")  # that --save writes
HOST, PORT = "127.0.0.1", 8000
SMOOTHING_S = 0.3
MQTT_TOPIC = "zeroseg"


class Size(click.ParamType):
    """WIDTHxHEIGHT in pixels."""

    name = "size"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        width, _, height = value.lower().partition("x")
        if not (width.isdecimal() and height.isdecimal() and 16 <= int(width) <= 16384 and 16 <= int(height) <= 16384):
            self.fail(f"expected WIDTHxHEIGHT such as 1280x720, got {value!r}", param, ctx)
        return int(width), int(height)


NETWORK = [
    click.option(
        "--short-side",
        type=click.IntRange(1),
        metavar="PX",
        help="Short side of the network's input: smaller is faster, larger is finer.  [default: the "
        "model's own; for live pictures smaller]",
    ),
]
SOURCE = [
    click.option("--camera", metavar="N|DEVICE", help="Camera by number or device file, such as 0 or /dev/video0."),
    click.option(
        "--size",
        type=Size(),
        metavar="WxH",
        help="Picture size to request from a camera; other sources are scaled down to fit.",
    ),
    click.option(
        "--fps",
        type=click.FloatRange(0, min_open=True),
        metavar="N",
        help="Highest frame rate; for images, the frame rate.",
    ),
    click.option(
        "--rotate",
        type=click.Choice(["0", "90", "180", "270"]),
        default="0",
        show_default=True,
        help="Rotate clockwise by this many degrees.  (Phone videos are turned upright automatically.)",
    ),
    click.option("--flip", type=click.Choice(["horizontal", "vertical", "both"]), help="Mirror the picture."),
    click.option(
        "--every", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Use only every N-th frame."
    ),
    click.option("--max-frames", type=click.IntRange(1), metavar="N", help="Stop after N frames."),
]
LOOK = [
    click.option(
        "--smooth",
        type=click.FloatRange(0),
        metavar="SECONDS",
        help=f"Smooth labels over this time; 0: do not.  [default: {SMOOTHING_S}; pictures 0]",
    ),
    click.option(
        "--legend/--no-legend", default=True, show_default=True, help="Show labels and scores in the picture."
    ),
    click.option("--figures", is_flag=True, help="Show frame rate and latency in the picture."),
]
SERVER = [
    click.option(
        "--host",
        default=HOST,
        show_default=True,
        metavar="ADDRESS",
        help="Address to listen on; 0.0.0.0 for the whole network.",
    ),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=PORT,
        show_default=True,
        metavar="N",
        help="0 takes a free one.",
    ),
    click.option(
        "--token",
        metavar="SECRET",
        envvar="ZEROSEG_TOKEN",
        help="Secret that viewers need: http://host:port/?token=SECRET.  [also: ZEROSEG_TOKEN]",
    ),
    click.option("--insecure", is_flag=True, help="Allow access from the network without a token."),
]
MQTT = [
    click.option(
        "--mqtt",
        metavar="URL",
        help="Tell this broker what is seen: mqtt://host[:port], or with TLS mqtts://host[:port]; see docs/home.md.",
    ),
    click.option(
        "--mqtt-topic",
        default=MQTT_TOPIC,
        show_default=True,
        metavar="NAME",
        help="What all its topics begin with, such as garden.",
    ),
    click.option(
        "--mqtt-hold",
        type=click.FloatRange(0, 3600),
        default=HOLD_S,
        show_default=True,
        metavar="SECONDS",
        help="How long a word must be out of sight to be absent.",
    ),
    click.option(
        "--mqtt-least-area",
        type=click.FloatRange(0, 100),
        default=100 * LEAST_AREA,
        show_default=True,
        metavar="PERCENT",
        help="Share of the picture that a word must have to be present.",
    ),
    click.option(
        "--mqtt-snapshot",
        type=click.Choice(["request", "change", "off"]),
        default="request",
        show_default=True,
        help="When a picture with masks is sent: on request, and also when presence changes.",
    ),
    click.option(
        "--mqtt-login",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="User and password, a line each.  [else: ZEROSEG_MQTT_USER and ZEROSEG_MQTT_PASSWORD]",
    ),
    click.option(
        "--mqtt-ca",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Certificate (PEM) of the authority that a broker with TLS is signed by.  [default: the system's]",
    ),
    click.option(
        "--mqtt-discovery/--no-mqtt-discovery",
        default=True,
        show_default=True,
        help="Whether Home Assistant is told of every word.",
    ),
]
TRITON = [
    click.option(
        "--instances",
        type=click.IntRange(1, 64),
        default=2,
        show_default=True,
        metavar="N",
        help="With triton: number of parallel networks; they share --threads.",
    ),
    click.option(
        "--max-batch",
        type=click.IntRange(1, 64),
        default=8,
        show_default=True,
        metavar="N",
        help="With triton: largest batch; 1: no batching.",
    ),
    click.option(
        "--window-ms",
        type=click.FloatRange(0, 1000),
        default=2.0,
        show_default=True,
        metavar="MS",
        help="With triton: how long a photo waits for others to share its batch.",
    ),
    click.option(
        "--triton-host",
        default=HOST,
        show_default=True,
        metavar="ADDRESS",
        help="Address for Triton to listen on. Triton has no token, so an address other than this "
        "machine's needs --insecure.",
    ),
    click.option(
        "--triton-http",
        type=click.IntRange(0, 65535),
        default=8001,
        show_default=True,
        metavar="PORT",
        help="0 takes a free one.",
    ),
    click.option(
        "--triton-grpc",
        type=click.IntRange(0, 65535),
        default=8002,
        show_default=True,
        metavar="PORT",
        help="0 takes a free one.",
    ),
]
NAMES = {
    "triton": ("instances", "max_batch", "window_ms", "triton_host", "triton_http", "triton_grpc"),
    "source": ("camera", "size", "fps", "rotate", "flip", "every", "max_frames"),
    "look": ("smooth", "legend", "figures"),
    "mqtt": (
        "mqtt",
        "mqtt_topic",
        "mqtt_hold",
        "mqtt_least_area",
        "mqtt_snapshot",
        "mqtt_login",
        "mqtt_ca",
        "mqtt_discovery",
    ),
    "server": ("host", "port", "token", "insecure"),
}


def options(*groups):
    """A decorator that adds groups of options, in order."""

    def decorate(command):
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate
