"""Results as datasets that other programs read: COCO, YOLO, VOC, LabelMe, Label Studio, CVAT; docs/datasets.md."""
