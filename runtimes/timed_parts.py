"""Where a call on a device spends its time: an optional method of sessions, which benchmarks ask.

A session on a device that can tell has ``timed_parts``; one that can't simply hasn't, and nobody
makes figures up for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from .inputs import Array


@dataclass(frozen=True, slots=True)
class Parts:
    """The steps of one call, in ns: from a CUDA event to the next on the session's stream.

    A CUDA event has a resolution of about 0.5 us
    (https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__EVENT.html). Where the stream is
    the engine's own (ONNX Runtime), each step is waited for, and the host's clock read.

    Attributes:
        copy_in_ns: From host to device, of all inputs.
        compute_ns: The engine's work; with a CUDA graph its replay.
        copy_out_ns: From device to host, of all outputs.
    """

    copy_in_ns: int
    compute_ns: int
    copy_out_ns: int


@runtime_checkable
class TimesParts(Protocol):
    """A session that can tell them."""

    def timed_parts(self, inputs: Mapping[str, Array]) -> Parts:
        """Do what ``run`` does once, on the same buffers and stream, and tell what each step took.

        The answer is thrown away: ``run`` is what users call, and is timed without events.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: The engine failed.
        """
        ...
