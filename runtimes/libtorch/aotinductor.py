"""AOTInductor packages: native code for one kind of CPU and one release of torch."""

import contextlib
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from edgeport.runtimes.cpus import available_cpus
from edgeport.runtimes.errors import BackendMissingError, EngineError, FormatError
from edgeport.runtimes.run_failures import out_of_memory
from edgeport.runtimes.safety.aoti_package import unpacked
from edgeport.runtimes.session import Availability, Options, check_signature
from edgeport.runtimes.signature import Signature

from .buffers import storage_uses
from .failures import last_line
from .native_target import MACHINES, NativeTarget
from .session import EXTRA_FILE, TorchSession

TARGET_FILE: Final = "edgeport.target.json"
"""Under this name a package says what it was compiled for."""

_REBUILD: Final = "export it again on this machine, or use another backend of the bundle"
_LOADER: Final = re.compile(r"version `\w+_[\d.]+' not found|undefined symbol: \w+")

_USES_OF_ITS_OWN: Final = 2
"""Of the storage of a tensor that nothing shares, while Python looks at it."""


def probe() -> Availability:
    """Usable wherever torch imports, on x86-64; on which CPU a package runs, only opening tells."""
    if platform.machine() in MACHINES:
        return Availability(True, "torch", torch.__version__, "cpu", devices=("cpu",))
    return Availability(
        False,
        "torch",
        torch.__version__,
        reason=f"it is for {', '.join(MACHINES)}, and this machine is {platform.machine()}",
        remedy="use another backend: ort-cpu",
    )


def open(path: Path, options: Options) -> TorchSession:
    """Open a package, which is native code that runs while it is loaded: check its hash first.

    Args:
        path: The package, or the library that was unpacked from one, beside what belongs to it.
        options: What the caller asked.

    Raises:
        BackendMissingError: It was compiled for another machine, or another release of torch.
        EngineError: Torch refused it.
        FormatError: It is no package, or does not carry a signature.
        ContractError: Its signature is not the one asked for.
        StorageError: There is no place to unpack it.
    """
    name = options.name or str(path)
    if path.suffix == ".so":
        return _open(path, name, options)
    with contextlib.ExitStack() as stack:
        try:
            library = stack.enter_context(unpacked(path, name))
        except ValueError as e:
            raise FormatError(
                f"{name} is no package of edgeport: {e}", remedy="export it again"
            ) from e
        return _open(library, name, options)


def _open(library: Path, name: str, options: Options) -> TorchSession:
    target = NativeTarget.loads(_said(library, TARGET_FILE, name), name)
    signature = Signature.loads(_said(library, EXTRA_FILE, name), name)
    check_signature(Path(name), signature, options)
    reason = target.mismatch(torch.__version__)
    if reason is not None:
        raise BackendMissingError(f"{name} cannot run here: {reason}", remedy=_REBUILD)
    runners: Any = vars(torch._C)["_aoti"]  # torch does not declare it
    calls_at_once = available_cpus()  # they share the weights
    try:
        runner = runners.AOTIModelContainerRunnerCpu(str(library), calls_at_once)
    except Exception as e:  # the dynamic linker's, and whatever the library raises
        if missing := _LOADER.search(str(e)):
            raise BackendMissingError(
                f"{name} cannot run here: it was linked with newer libraries: {missing[0]}",
                remedy=_REBUILD,
            ) from e
        refused, reason = f"torch cannot open {name}", last_line(e)
        raise out_of_memory(refused, reason) or EngineError(
            f"{refused}: {reason}", remedy="export it again"
        ) from e
    return TorchSession("aotinductor", _Call(runner), signature, options)


def _said(library: Path, file: str, name: str) -> bytes:
    try:
        return (library.parent / file).read_bytes()
    except FileNotFoundError as e:
        raise FormatError(
            f"{name} has no {file}, so nothing says what it takes and where it runs",
            remedy="export it with edgeport",
        ) from e


class _Call:
    """Torch's runner as a function of tensors, whose results are the caller's."""

    __slots__ = ("_run",)

    def __init__(self, runner: Any) -> None:
        self._run = runner.run

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        torch.get_num_threads()  # a new thread takes the number that was set for the process
        return [_own(tensor, tensors) for tensor in self._run(tensors)]


def _own(tensor: torch.Tensor, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """What is an input, or a view of one or of a weight, is copied: it looks like any result."""
    storage = tensor.untyped_storage()
    alone = storage_uses(storage._cdata) == _USES_OF_ITS_OWN
    return tensor if alone and all(tensor is not each for each in inputs) else tensor.clone()
