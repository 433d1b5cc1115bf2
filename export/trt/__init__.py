"""TensorRT: from an ONNX file to an engine that was compared with the model, and bundles to build one elsewhere."""
