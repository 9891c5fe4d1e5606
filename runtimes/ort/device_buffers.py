"""Memory that is bound to a session once, and used again whenever the shapes repeat.

Each tensor is where ONNX Runtime wants it. A model whose nodes all ran on the CPU, bound in the
memory of an H100, answered wrongly without an error.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import onnxruntime

from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import Signature
from edgeport.runtimes.timed_parts import Parts

_MOST_SHAPES: Final = 32
"""Beyond them everything is given back: memory of a GPU is dear."""

_Shapes = tuple[tuple[int, ...], ...]
_Place = tuple[str, int]


class DeviceBuffers:
    """Bound memory of one session. Safe to share between threads.

    A call has a binding for itself: threads take them from a list per combination of input shapes,
    and put them back (``list.pop`` and ``list.append`` are atomic).

    Args:
        session: Of ONNX Runtime.
        signature: Of its model.
        kind: Of the device, as ONNX Runtime calls it: ``"cuda"``.
        index: Which of them.
        graphs: Whether calls are recorded. A recording knows addresses, so each binding has one.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        signature: Signature,
        kind: str,
        index: int,
        *,
        graphs: bool = False,
    ) -> None:
        self._session = session
        where = [*session.get_input_memory_infos(), *session.get_output_memory_infos()]
        self._places = [
            (kind, index) if info.name.lower() == kind else ("cpu", 0) for info in where
        ]
        self._graphs = itertools.count(1) if graphs else None
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        self._spare: dict[_Shapes, list[Lent]] = {}
        self._same_sizes = signature.sizes_follow

    @contextlib.contextmanager
    def lent(self, arrays: Sequence[Array]) -> Iterator[Lent]:
        """A binding that fits these inputs. If the call fails, it is thrown away.

        Args:
            arrays: Inputs in the order of the signature, which passed the check.
        """
        shapes = tuple([array.shape for array in arrays])
        if shapes not in self._spare and len(self._spare) >= _MOST_SHAPES:
            self._spare = {}
        spare = self._spare.setdefault(shapes, [])
        try:
            lent = spare.pop()
        except IndexError:  # never seen, or other threads have them all
            lent = self._make(arrays)
        yield lent
        if not self._same_sizes:
            lent.forget_outputs()
        spare.append(lent)

    def _make(self, arrays: Sequence[Array]) -> Lent:
        call = self._session.run_with_iobinding
        if self._graphs is not None:
            options = onnxruntime.RunOptions()
            options.add_run_config_entry("gpu_graph_id", str(next(self._graphs)))
            call = partial(call, run_options=options)
        binding = self._session.io_binding()
        inputs = list(zip(self._inputs, arrays, self._places, strict=False))
        outputs = list(zip(self._outputs, self._places[len(inputs) :], strict=True))
        return Lent(partial(call, binding), binding, inputs, outputs)


class Lent:
    """What one call needs: inputs where they are read, and outputs where they are written.

    Outputs keep the memory of the first call, so that a CUDA graph finds it again; where the
    values decide how large they are, they are bound anew.

    Attributes:
        call: ONNX Runtime's own, on what is bound.
    """

    __slots__ = ("_binding", "_outputs", "_values", "call")

    def __init__(
        self,
        call: Callable[[], object],
        binding: Any,
        inputs: Sequence[tuple[str, Array, _Place]],
        outputs: Sequence[tuple[str, _Place]],
    ) -> None:
        self._outputs = outputs
        self.call = call
        self._binding = binding
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._values = [make(array.shape, array.dtype, *place) for _, array, place in inputs]
        for (name, _, _), value in zip(inputs, self._values, strict=True):
            self._binding.bind_ortvalue_input(name, value)
        self._bind_outputs()

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Copy to the device, compute, copy back; what comes back is the caller's."""
        self._copy_in(arrays)
        self.call()
        return self._copy_out()

    def times(self, arrays: Sequence[Array]) -> Parts:
        """Do the same once, and tell what each step took: each of them waits for its end."""
        moments = [time.perf_counter_ns()]
        self._copy_in(arrays)
        moments.append(time.perf_counter_ns())
        self.call()
        moments.append(time.perf_counter_ns())
        self._copy_out()
        moments.append(time.perf_counter_ns())
        return Parts(*(end - start for start, end in itertools.pairwise(moments)))

    def forget_outputs(self) -> None:
        """Let the next call find memory of its own for them."""
        self._binding.clear_binding_outputs()
        self._bind_outputs()

    def _copy_in(self, arrays: Sequence[Array]) -> None:
        for value, array in zip(self._values, arrays, strict=True):
            value.update_inplace(array)

    def _copy_out(self) -> list[Array]:
        return [_own(value.numpy()) for value in self._binding.get_outputs()]

    def _bind_outputs(self) -> None:
        for name, place in self._outputs:
            self._binding.bind_output(name, *place)


def _own(array: Array) -> Array:
    """What ONNX Runtime does not keep: memory that is not a device's is shown, not copied."""
    return array if array.flags.owndata else array.copy()
