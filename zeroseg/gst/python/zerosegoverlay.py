"""GStreamer's plugin zerosegoverlay: video in, the same video with tinted segments out. Loaded by gst-python.

Its properties (labels, threshold, alpha) can be set while it runs; model must be set before.
"""

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GObject, Gst, GstBase, GstVideo  # noqa: E402

Gst.init(None)
_CAPS = Gst.Caps.from_string("video/x-raw,format=RGB,width=[1,8192],height=[1,8192]")


class ZerosegOverlay(GstBase.BaseTransform):
    """Caps: video/x-raw, RGB, on both sides; videoconvert before and after it makes any other format."""

    __gstmetadata__ = ("zeroseg overlay", "Filter/Effect/Video", "Tints what the words name", "zeroseg")
    __gsttemplates__ = (
        Gst.PadTemplate.new("src", Gst.PadDirection.SRC, Gst.PadPresence.ALWAYS, _CAPS),
        Gst.PadTemplate.new("sink", Gst.PadDirection.SINK, Gst.PadPresence.ALWAYS, _CAPS),
    )
    labels = GObject.Property(type=str, default="person", nick="words with commas, or a labels.npz")
    model = GObject.Property(type=str, default="", nick="model file; empty: the bundled one")
    threshold = GObject.Property(type=float, default=-2.0, nick="least score; below -1: the model's own")
    alpha = GObject.Property(type=float, default=0.5, minimum=0.0, maximum=1.0, nick="opacity of the segments")

    def __init__(self):
        super().__init__()
        self._segmenter = self._info = self._pack = self._words = None

    def do_start(self):
        from zeroseg.errors import ZerosegError
        from zeroseg.segment.segmenter import Segmenter

        try:
            self._segmenter = Segmenter.load(self.model or None)
            self._read_words()
        except (ZerosegError, ValueError) as error:
            self._say(Gst.MessageType.ERROR, error)
            return False
        return True

    def do_set_caps(self, incoming, outgoing):
        self._info = GstVideo.VideoInfo.new_from_caps(incoming)
        return True

    def do_transform(self, source, target):
        import numpy as np

        from zeroseg.drawing import blend
        from zeroseg.errors import ZerosegError

        try:
            self._read_words()
        except (ZerosegError, ValueError) as error:  # the words before stay
            self._say(Gst.MessageType.WARNING, error)
        width, height, stride = self._info.width, self._info.height, self._info.stride[0]
        with source.map(Gst.MapFlags.READ) as data:
            rows = np.frombuffer(data.data, np.uint8)[: height * stride].reshape(height, stride)
            image = rows[:, : 3 * width].reshape(height, width, 3).copy()
        threshold = None if self.threshold < -1 else self.threshold
        try:
            result = self._segmenter.encode(image).masks(self._pack, threshold)
        except ZerosegError as error:
            self._say(Gst.MessageType.ERROR, error)
            return Gst.FlowReturn.ERROR
        with target.map(Gst.MapFlags.READ | Gst.MapFlags.WRITE) as data:
            rows = np.frombuffer(data.data, np.uint8)[: height * stride].reshape(height, stride)
            rows[:, : 3 * width] = blend(image, result.label_map, result.colors, self.alpha).reshape(height, -1)
        return Gst.FlowReturn.OK

    def _read_words(self):
        """Look the labels up if they are others than before. ValueError or ZerosegError where there are none."""
        from zeroseg.words import split_words

        words = self.labels or ""
        if words != self._words:
            self._words = words
            self._pack = self._segmenter.label_pack(words if words.endswith(".npz") else split_words(words))

    def _say(self, kind, error):
        make = Gst.Message.new_error if kind == Gst.MessageType.ERROR else Gst.Message.new_warning
        code = GObject.GError.new_literal(Gst.LibraryError.quark(), str(error), Gst.LibraryError.SETTINGS)
        self.post_message(make(self, code, str(error)))


GObject.type_register(ZerosegOverlay)
__gstelementfactory__ = ("zerosegoverlay", Gst.Rank.NONE, ZerosegOverlay)
