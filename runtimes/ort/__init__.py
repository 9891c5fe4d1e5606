"""ONNX Runtime: on the CPU, on a GPU by its CUDA provider, and for text as strings."""
