"""TensorRT and TensorRT-RTX: engines for NVIDIA GPUs."""
