"""The session of the backends of torch: numpy in, numpy out, one thread count per process."""

import contextlib
import gc
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from edgeport.runtimes.bound_buffers import BoundBuffers, unbound
from edgeport.runtimes.cpus import available_cpus
from edgeport.runtimes.devices import rounded
from edgeport.runtimes.errors import (
    ContractError,
    EngineError,
    FormatError,
    UsageError,
)
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.outputs import OutputCheck
from edgeport.runtimes.run_failures import out_of_memory
from edgeport.runtimes.session import Closes, EngineInfo, Options, check_signature, closed
from edgeport.runtimes.signature import Signature
from edgeport.runtimes.timed_parts import Parts

from .buffers import INFERENCE_MODE, TorchBinder, owned
from .device import GpuChoices, require_all_on, require_torch_device
from .failures import failure, gpu_failure, last_line
from .threads import THREADS, outlast_forks
from .turns import in_turn, writes_to_itself

EXTRA_FILE: Final = "edgeport.signature.json"
"""Under this name a torch archive carries its signature."""

ExtraFiles: TypeAlias = dict[str, Any]

_CPU: Final = torch.device("cpu")


class TorchSession(Closes):
    """A callable that takes and gives torch tensors, behind the session protocol.

    Every tensor of it is on ``device``, as ``require_all_on`` has seen; inputs are copied there.
    Inputs are copied, so that a module that writes into its inputs cannot reach the caller's
    arrays: on the CPU, small ones into tensors that are used again. Safe to share between threads,
    which take turns where the module writes into tensors of its own, and to use in a forked
    process.
    Torch has one thread count for the whole process: opening a session sets it, closing the newest
    restores it, and ``engine.threads`` tells what it is now; so it is with TF32 on a GPU, and
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
        threads = options.threads or available_cpus()
        self._give_threads_back = THREADS.change(lambda: torch.set_num_threads(threads))
        outlast_forks()
        self.signature = signature
        self._backend = backend
        self._device, self._on_cpu = device, device == _CPU
        self._call: Callable[..., Any] | None = call
        self._check = InputCheck(signature)
        self._check_outputs = OutputCheck(signature)
        self._outputs = [spec.name for spec in signature.outputs]
        self._bound: BoundBuffers | None = None
        if self._on_cpu:
            self._bound = BoundBuffers(signature, TorchBinder(call, self._outputs))
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
            with INFERENCE_MODE(True):
                tensors = self._tensors(arrays)
                outputs = self._arrays(call(*tensors))
        except ContractError:
            raise
        except Exception as e:  # whatever the compiled code raises
            raise failure(e, self._device) from e
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
            self._give_threads_back()
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
            return owned(tensor)
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
            with torch.cuda.device(self._device), INFERENCE_MODE(True):
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
            raise failure(e, self._device) from e
        return Parts(
            *(round(start.elapsed_time(end) * 1e6) for start, end in itertools.pairwise(events))
        )

    def close(self) -> None:
        """Give the GPU's memory back, which torch keeps for itself otherwise."""
        super().close()
        gc.collect()  # an exported program refers to itself
        with contextlib.suppress(RuntimeError):  # of a GPU that is lost
            torch.cuda.empty_cache()


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
        EngineError: Torch refused it, or (``OutOfMemoryError``) got no memory for it.
        FormatError: It does not carry a signature.
        ContractError: Its signature, or where its tensors are, is not what was asked for.
    """
    extra_files: ExtraFiles = {EXTRA_FILE: ""}
    name = options.name or str(path)
    device = require_torch_device(options.device)
    try:
        module = load(extra_files, device)
    except Exception as e:  # RuntimeError, zipfile's, json's, whatever the archive's code raises
        refused, reason = f"torch cannot open {name}", last_line(e)
        raise (
            gpu_failure(e, device)
            or out_of_memory(refused, reason)
            or EngineError(
                f"{refused}: {reason}",
                remedy="check that its suffix is right and that torch is as new as its producer",
            )
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
    call = _without_autocast(call, device)
    kind = TorchSession if device == _CPU else TorchGpuSession
    alone = in_turn(call) if writes_to_itself(module) else call
    return kind(backend, alone, signature, options, device)


def _without_autocast(call: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """A call that computes as the file says, also where a caller has torch round products."""
    is_on = torch._C._is_any_autocast_enabled

    def exact(*tensors: torch.Tensor) -> Any:
        if not is_on():
            return call(*tensors)
        with torch.autocast(device.type, enabled=False):
            return call(*tensors)

    return exact


def _as_it_was(tensor: torch.Tensor, array: Array) -> bool:
    """Whether a module has not turned its input in place: ``x.t_()``."""
    return tensor.shape == array.shape and tensor.is_contiguous()


def _finished(call: Callable[[], object], device: torch.device) -> None:
    """A GPU is only told what to do by a call: wait until it has done it."""
    call()
    torch.cuda.synchronize(device)
