"""A GStreamer element, zerosegoverlay, in python/zerosegoverlay.py. docs/live.md says how to use it."""

from pathlib import Path

PLUGIN_PATH = Path(__file__).resolve().parent  # for GST_PLUGIN_PATH; the loader looks into its folder `python`
