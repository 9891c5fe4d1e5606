"""One number for the weights of a module, so that two bundles can be told to come from the same."""

import hashlib

import numpy as np
import torch
from torch import nn


def weights_sha256(module: nn.Module) -> str:
    """The sha256 over name, dtype, shape and bytes of every parameter and buffer, by name.

    Buffers that are not saved count too: they change what the module computes.
    """
    parameters = module.named_parameters(remove_duplicate=False)
    tensors = {**dict(parameters), **dict(module.named_buffers(remove_duplicate=False))}
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        dense = tensor.detach().cpu().to_dense().contiguous()
        digest.update(f"{name} {dense.dtype} {tuple(dense.shape)}\n".encode())
        # behind Tensor.numpy() torch lets nobody resize a buffer
        digest.update(np.from_dlpack(dense.reshape(-1).view(torch.uint8)).data)
    return digest.hexdigest()
