"""Measuring segmentations: folders of masks, protocols, metrics, reports. Needs numpy and pillow only."""
