"""Write results as datasets for other programs: COCO, YOLO, VOC, LabelMe, Label Studio, CVAT; docs/datasets.md."""
