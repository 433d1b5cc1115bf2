"""TensorRT: build an engine from an ONNX file, compare it with the model, and make bundles to build one elsewhere."""
