"""Results as data sets that other programs read: COCO, YOLO, VOC, LabelMe, Label Studio, CVAT; docs/datasets.md."""
