"""CLIP towers of open_clip as segmenters, without training; docs/open_clip.md."""
