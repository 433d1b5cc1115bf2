"""The formats by name."""

from importlib import import_module

_HOME = {
    "coco": "zeroseg.formats.coco:CocoWriter",
    "yolo": "zeroseg.formats.yolo:YoloWriter",
    "voc": "zeroseg.formats.voc:VocWriter",
    "labelme": "zeroseg.formats.label_me:LabelMeWriter",
    "label-studio": "zeroseg.formats.label_studio:LabelStudioWriter",
    "cvat": "zeroseg.formats.cvat_images:CvatWriter",
}
FORMATS = tuple(_HOME)


def writer_class(kind: str):
    """Import and return the Writer class of a format."""
    module, name = _HOME[kind].split(":")
    return getattr(import_module(module), name)
