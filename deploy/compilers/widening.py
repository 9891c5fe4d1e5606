"""From bfloat16 to float32, in a graph: ONNX Runtime has no arithmetic in bfloat16 on the CPU.

float32 holds all values of bfloat16, so the result is at least as near to the truth; the proof
compares it with the module in bfloat16.
"""

from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

from .onnx_messages import messages

_NARROW: Final = onnx.TensorProto.BFLOAT16
_WIDE: Final = onnx.TensorProto.FLOAT
_DTYPE_ATTRIBUTES: Final = ("to", "dtype")


def widen_bfloat16(model: onnx.ModelProto) -> bool:
    """Replace bfloat16 everywhere in a model; return whether there was any."""
    found = False
    for message in list(messages(model)):
        match message.DESCRIPTOR.name:
            case "TensorProto" if message.data_type == _NARROW:
                wide = numpy_helper.to_array(message).astype(np.float32)
                message.CopyFrom(numpy_helper.from_array(wide, message.name))
            case "Tensor" if message.elem_type == _NARROW:  # TypeProto.Tensor
                message.elem_type = _WIDE
            case "AttributeProto" if message.name in _DTYPE_ATTRIBUTES and message.i == _NARROW:
                message.i = _WIDE
            case _:
                continue
        found = True
    return found
