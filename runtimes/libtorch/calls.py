"""What the backends of torch share: numpy in, numpy out, one thread count per process."""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from sys import getrefcount
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from edgeport.runtimes.bound_buffers import Bound, BoundBuffers, unbound
from edgeport.runtimes.cpus import available_cpus
from edgeport.runtimes.devices import rounded
from edgeport.runtimes.errors import (
    ContractError,
    EngineError,
    FormatError,
    LostGpuError,
    UsageError,
)
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.outputs import OutputCheck
from edgeport.runtimes.parts import Parts
from edgeport.runtimes.run_failures import run_failure
from edgeport.runtimes.session import Closes, EngineInfo, Options, check_signature, closed
from edgeport.runtimes.signature import Signature

from .device import GpuChoices, require_all_on, require_torch_device

EXTRA_FILE: Final = "edgeport.signature.json"
"""Under this name a torch archive carries its signature."""

_storage_uses: Final[Callable[[int], int]] = torch._C._storage_Use_Count

ExtraFiles: TypeAlias = dict[str, Any]

_CPU: Final = torch.device("cpu")

_CUDA_ERROR: Final = re.compile("CUDA error: .*")
"""Four lines of advice follow it, and the stack of a script is in front."""
_CRASHES: Final = (
    "device-side assert triggered",
    "illegal memory access",
    "misaligned address",
    "illegal instruction",
    "unspecified launch failure",
    "the launch timed out",
)
"""After these no call of CUDA succeeds any more."""

_INFERENCE_MODE: Final[Any] = torch._C._InferenceMode
"""What ``torch.inference_mode`` enters, which takes 3 us more to do so."""


class TorchSession(Closes):
    """A callable that takes and gives torch tensors, behind the session protocol.

    Every tensor of it is on ``device``, as ``require_all_on`` has seen; inputs are copied there.
    Inputs are copied, so that a module that writes into its inputs cannot reach the caller's
    arrays: on the CPU, small ones into tensors that are used again. Safe to share between threads.
    Torch has one thread count for the whole process: opening a session sets it, closing restores
    it, and ``engine.threads`` tells what it is now; so it is with TF32 on a GPU, and
    ``engine.precision``.
    """

    def __init__(
        self,
        backend: str,
        call: Callable[..., Any],
        signature: Signature,
        options: Options,
        device: torch.device = _CPU,
    ) -> None:
        if not options.spinning:
            raise UsageError(
                f"backend {backend!r} cannot be told how its idle threads wait",
                remedy="leave spinning as it is: it is a choice of ort-cpu",
            )
        self._choices = GpuChoices(device, options.gpu)
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(options.threads or available_cpus())
        self.signature = signature
        self._backend = backend
        self._device, self._on_cpu = device, device == _CPU
        self._call: Callable[..., Any] | None = call
        self._check = InputCheck(signature)
        self._check_outputs = OutputCheck(signature)
        self._outputs = [spec.name for spec in signature.outputs]
        self._bound: BoundBuffers | None = None
        if self._on_cpu:
            self._bound = BoundBuffers(signature, _Binder(call, self._outputs))
        self._quick = self._bound.run if self._bound else unbound

    @property
    def engine(self) -> EngineInfo:
        """What is really in use."""
        return EngineInfo(
            backend=self._backend,
            engine="torch",
            version=torch.__version__,
            provider=self._device.type,
            device=str(self._device),
            precision=rounded(self.signature.precision, tf32=self._choices.tf32),
            threads=torch.get_num_threads(),
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute every output.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: Torch failed, an output does not fit the signature, or the session is
                closed.
        """
        found = self._quick(inputs)
        if found is not None:
            return found
        arrays = self._check(inputs)
        call = self._opened()
        try:
            with _INFERENCE_MODE(True):
                tensors = self._tensors(arrays)
                outputs = self._arrays(call(*tensors))
        except ContractError:
            raise
        except Exception as e:  # whatever the compiled code raises
            raise _failed(e, self._device) from e
        self._check_outputs(arrays, outputs)
        if self._bound and all(map(_as_it_was, tensors, arrays)):
            self._bound.learn(arrays, list(outputs.values()))
        return outputs

    @contextlib.contextmanager
    def engine_call(self, inputs: Mapping[str, Array]) -> Iterator[Callable[[], object]]:
        """Show torch's own call on these inputs, tensors in and out, to be timed beside ``run``.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: The session is closed.
        """
        tensors = self._tensors(self._check(inputs))
        opened = self._opened()
        with torch.inference_mode():  # entered once: it costs as much as a small layer
            call = partial(opened, *tensors)
            yield call if self._on_cpu else partial(_finished, call, self._device)

    def close(self) -> None:
        """Give the engine's memory back, and the process what was set for it."""
        if self._call is not None:
            torch.set_num_threads(self._threads_before)
            self._choices.restore()
        self._call = self._bound = None
        self._quick = unbound

    def _opened(self) -> Callable[..., Any]:
        if self._call is None:
            raise closed()
        return self._call

    def _tensors(self, arrays: Sequence[Array]) -> list[torch.Tensor]:
        if not self._on_cpu:
            return [torch.tensor(array, device=self._device) for array in arrays]
        return [  # of one that is not writeable, from_numpy warns; else it is quicker by 4 us
            torch.from_numpy(array).clone() if array.flags.writeable else torch.tensor(array)
            for array in arrays
        ]

    def _arrays(self, result: Any) -> dict[str, Array]:
        tensors = (result,) if isinstance(result, torch.Tensor) else result
        outputs = [self._array(*each) for each in zip(self._outputs, tensors, strict=True)]
        return dict(zip(self._outputs, outputs, strict=True))

    def _array(self, name: str, tensor: torch.Tensor) -> Array:
        if self._on_cpu and tensor.is_cpu:
            return _owned(tensor)
        if tensor.device != self._device:
            raise ContractError(
                f"output {name!r} was computed on {tensor.device}, not on {self._device}",
                remedy="make new tensors in the module with device=x.device, and export it again",
            )
        return tensor.cpu().numpy()


class TorchGpuSession(TorchSession):
    """The same on a GPU, whose stream tells what each step of a call takes."""

    def timed_parts(self, inputs: Mapping[str, Array]) -> Parts:
        """Do what ``run`` does once, and tell what each step took by CUDA's events.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: Torch failed, or the session is closed.
        """
        arrays = self._check(inputs)
        call = self._opened()
        event: Any = torch.cuda.Event  # it has no types
        events = [event(enable_timing=True) for _ in range(4)]
        try:
            with torch.cuda.device(self._device), _INFERENCE_MODE(True):
                events[0].record()
                tensors = self._tensors(arrays)
                events[1].record()
                result = call(*tensors)
                events[2].record()
                for tensor in (result,) if isinstance(result, torch.Tensor) else result:
                    tensor.cpu()
                events[3].record()
                events[3].synchronize()
        except Exception as e:
            raise _failed(e, self._device) from e
        return Parts(
            *(round(start.elapsed_time(end) * 1e6) for start, end in itertools.pairwise(events))
        )


class _Binder:
    """Makes tensors for inputs like some, in the memory of arrays, to be filled in every call.

    A module may keep its input, or a view of it, and look at it in its next call, or turn it in
    place. What is still held after a call, or has another shape, is left as it is, and others take
    its place.
    """

    __slots__ = ("_call", "_outputs")

    def __init__(self, call: Callable[..., Any], outputs: Sequence[str]) -> None:
        self._call, self._outputs = call, outputs

    def __call__(self, arrays: Sequence[Array], _: Sequence[Array]) -> Bound:
        shared = [_Shared(array) for array in arrays]
        single = len(shared) == len(self._outputs) == 1
        own = [each.array for each in shared]
        return Bound(own, (self._one if single else self._many)(shared, own))

    def _many(self, shared: list["_Shared"], own: list[Array]) -> Callable[[], dict[str, Array]]:
        call, names = self._call, self._outputs

        def compute() -> dict[str, Array]:
            with _INFERENCE_MODE(True):
                result = call(*[each.tensor for each in shared])
                tensors = (result,) if type(result) is torch.Tensor else result
                outputs = dict(zip(names, map(_owned, tensors), strict=True))
            del result, tensors
            for index, each in enumerate(shared):
                if each.spent:
                    shared[index] = _Shared(each.array)
                    own[index] = shared[index].array
            return outputs

        return compute

    def _one(self, shared: list["_Shared"], own: list[Array]) -> Callable[[], dict[str, Array]]:
        """The same for one input and one output: 8 us less, a quarter of a small model's call."""
        call, (name,), (only,) = self._call, self._outputs, shared

        def compute() -> dict[str, Array]:
            nonlocal only
            with _INFERENCE_MODE(True):
                result = call(only.tensor)
                (output,) = (result,) if type(result) is torch.Tensor else result
                outputs = {name: (output if output.is_inference() else output.clone()).numpy()}
            del result, output
            if only.spent:
                only = _Shared(only.array)
                own[0] = only.array
            return outputs

        return compute


class _Shared:
    """An array, and a tensor in its memory."""

    __slots__ = ("_fresh", "_storage", "array", "tensor")

    def __init__(self, like: Array) -> None:
        self.array = np.empty_like(like, order="C")
        with _INFERENCE_MODE(False):  # so that a view of it is told from what was computed
            self.tensor = torch.from_numpy(self.array)
        self._storage = self.tensor.untyped_storage()
        self._fresh = self._state()

    @property
    def spent(self) -> bool:
        """Whether a call has turned the tensor, or left somebody else with it or a view of it."""
        return self._state() != self._fresh

    def _state(self) -> tuple[object, ...]:
        tensor: Any = self.tensor  # _use_count has no type
        return (
            getrefcount(tensor),
            tensor._use_count(),  # holders in C++
            getrefcount(self._storage),
            _storage_uses(self._storage._cdata),  # views
            tensor.shape,
            tensor.stride(),
        )


def open_signed(
    backend: str,
    path: Path,
    options: Options,
    load: Callable[[ExtraFiles, torch.device], torch.nn.Module],
) -> TorchSession:
    """Load a torch archive that carries its signature.

    Args:
        backend: Its name.
        path: The archive.
        options: What the caller asked.
        load: Loads it to a device, and fills in the extra files that it is given the names of.

    Raises:
        BackendMissingError: Torch does not have the device.
        EngineError: Torch refused it.
        FormatError: It does not carry a signature.
        ContractError: Its signature, or where its tensors are, is not what was asked for.
    """
    extra_files: ExtraFiles = {EXTRA_FILE: ""}
    name = options.name or str(path)
    device = require_torch_device(options.device)
    try:
        module = load(extra_files, device)
    except torch.OutOfMemoryError as e:
        raise _failed(e, device) from e
    except Exception as e:  # RuntimeError, zipfile's, json's, whatever the archive's code raises
        raise EngineError(
            f"torch cannot open {name}: {last_line(e)}",
            remedy="check that its suffix is right, that torch is as new as its producer, and that "
            "there is free memory",
        ) from e
    if not extra_files[EXTRA_FILE]:
        raise FormatError(
            f"{name} carries no signature, so its inputs have no names",
            remedy="export it with edgeport",
        )
    signature = Signature.loads(extra_files[EXTRA_FILE], name)
    check_signature(path, signature, options)
    require_all_on(device, name, [*module.parameters(), *module.buffers()])
    # A script has its hooks in it, and Module.__call__ would look for others: 3 us.
    call = module.forward if isinstance(module, torch.jit.ScriptModule) else module
    kind = TorchSession if device == _CPU else TorchGpuSession
    return kind(backend, call, signature, options, device)


def _owned(tensor: torch.Tensor) -> Array:
    """What the caller may write into: not an input, a weight, a constant, or a view of one.

    What is computed in inference mode is an inference tensor; what was there before is not.
    """
    return (tensor if tensor.is_inference() else tensor.clone()).numpy()


def _as_it_was(tensor: torch.Tensor, array: Array) -> bool:
    """Whether a module has not turned its input in place: ``x.t_()``."""
    return tensor.shape == array.shape and tensor.is_contiguous()


def _finished(call: Callable[[], object], device: torch.device) -> None:
    """A GPU is only told what to do by a call: wait until it has done it."""
    call()
    torch.cuda.synchronize(device)


def _failed(error: Exception, device: torch.device) -> EngineError:
    if isinstance(error, torch.OutOfMemoryError):
        told = ". ".join(" ".join(str(error).split()).split(". ")[:3])  # then advice on settings
        return EngineError(
            f"{device} is out of memory: {told}",
            remedy="use smaller inputs, or end what else uses the GPU: nvidia-smi lists it",
        )
    if said := _CUDA_ERROR.search(str(error)):
        problem = f"torch failed on {device}: {said[0].strip()}"
        if any(words in problem for words in _CRASHES):
            return LostGpuError(
                problem,
                remedy="CUDA cannot be used again in this process: start a new one; an index "
                "behind the end of its table is told on the CPU",
            )
        return EngineError(problem, remedy="edgeport doctor shows the driver and the GPUs")
    return run_failure("torch", last_line(error))


def last_line(error: Exception) -> str:
    """The line of a torch exception that says what happened; the rest is a stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    code = [line for line, under in itertools.pairwise(lines) if "<--- HERE" in under][-1:]
    if any(line.startswith("The original call is") for line in lines):  # a loader's, not a run's
        return " ".join([lines[0], *code])
    if lines and lines[-1].endswith("Error:"):  # without a message: the line of code then
        return " ".join([lines[-1], *code])
    return lines[-1] if lines else type(error).__name__
