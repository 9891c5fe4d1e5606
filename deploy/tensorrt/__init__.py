"""Engines of TensorRT and TensorRT-RTX, built from ONNX that is proved."""
