"""AOTInductor: the exported program as C++, compiled here to a shared library.

It is bound to the level of x86-64 and the release of torch that are written into it. Nothing is
taken from Inductor's caches: they are shared by all programs of a user, and hold pickles.
"""

import contextlib
import errno
import io
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

import torch

from edgeport.deploy.compilers.operators import composites
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import BackendMissingError, ContractError, StorageError
from edgeport.runtimes import files as storage
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.libtorch.aotinductor import TARGET_FILE
from edgeport.runtimes.libtorch.native_target import (
    LEVELS,
    MACHINES,
    NativeTarget,
    best_level,
    release,
)
from edgeport.runtimes.libtorch.session import EXTRA_FILE
from edgeport.runtimes.safety.aoti_package import CALLS, FOLDER, LIBRARY, METADATA

from .bounded_indices import bound
from .stored import WRITTEN_BY_THE_WRITER, Compiled, store
from .sums_by_axis import by_axis

FORMAT: Final = "aotinductor"

_FILE: Final = "model.aoti"

_THREADS: Final = 8
"""For how many the loops are cut; how many there are is asked when they run."""


def require_compiler() -> None:
    """Refuse what cannot be compiled here, before anything is.

    Raises:
        BackendMissingError: There is no C++ compiler, or the machine is another.
    """
    machine = platform.machine()
    if machine not in MACHINES:
        raise BackendMissingError(
            f"{FORMAT} is compiled on {', '.join(MACHINES)} alone, and this machine is {machine}",
            remedy=f"leave {FORMAT} out with --format",
        )
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise BackendMissingError(
            f"{FORMAT} needs a C++ compiler, and {compiler} is not installed",
            remedy=f"apt install g++, or name another in CXX; or leave {FORMAT} out with --format",
        )


def save(source: Source, folder: Path, program: torch.export.ExportedProgram) -> Compiled:
    """Compile a program for this CPU, and save it with its signature and target inside.

    Raises:
        ContractError: It needs something beside its library that a package cannot hold.
        StorageError: The disk is full.
        Exception: Whatever Inductor raises, and what the C++ compiler says.
    """
    level = best_level()
    bound(program)
    program._example_inputs = (source.example_tensors(), {})  # Inductor looks at their layout
    temporary = Path(tempfile.gettempdir()).resolve()
    with storage.scratch_folder(temporary) as scratch, _compiling(scratch):
        made, beyond = _compile(program, level, scratch)
        target = NativeTarget(platform.machine(), (level, *beyond), release(torch.__version__))
        data = _package(made, source, target)
    details: dict[str, int | str] = {
        "machine": target.machine,
        "instructions": ", ".join(target.instructions),
        "torch": target.torch,
    }
    return Compiled(Artefact(FORMAT, source.precision, store(folder, _FILE, data), details))


@contextlib.contextmanager
def _compiling(scratch: Path) -> Iterator[None]:
    """What Inductor and the C++ compiler write goes to one folder, and names nothing of it."""
    from torch._inductor import config, cpp_builder  # seconds

    own: Any = cpp_builder._get_os_related_cpp_cflags
    hidden = {Path(torch.__file__).parent: "torch", scratch: "."}

    def flags(compiler: str) -> list[str]:
        maps = (f"ffile-prefix-map={path}={name}" for path, name in hidden.items())
        return [*own(compiler), *maps]

    places = {"TORCHINDUCTOR_CACHE_DIR": str(scratch), "TMPDIR": str(scratch)}
    settings: Any = config  # its patch has no types
    with (
        mock.patch.dict(os.environ, places),
        mock.patch.object(tempfile, "tempdir", str(scratch)),
        mock.patch.object(cpp_builder, "_get_os_related_cpp_cflags", flags),
        settings.patch(_SETTINGS),
        composites.known(),
        by_axis(),
    ):
        yield


_SETTINGS: Final[Mapping[str, object]] = {
    "force_disable_caches": True,
    "compile_threads": 1,  # no pool of processes
    "cpp.vec_isa_ok": True,  # it would compile and run a test of each instruction set
    "cpp.dynamic_threads": True,  # else arrays have as many places as threads are here, unchecked
    "cpp.threads": _THREADS,
    "aot_inductor.precompile_headers": False,  # they cost more than they save, used once
    "aot_inductor.enable_line_tables": False,
    "aot_inductor.check_lowerbound": False,  # sizes of 1 are proved
}


def _compile(
    program: torch.export.ExportedProgram, level: str, scratch: Path
) -> tuple[Path, tuple[str, ...]]:
    """Torch's own package, and the instructions in it beyond those of a level."""
    from torch._inductor import aoti_compile_and_package, config, cpu_vec_isa

    settings: Any = config
    with settings.patch({"cpp.march": level}):
        chosen: Any = cpu_vec_isa.pick_vec_isa()
        named = [flag.removeprefix("-m") for flag in chosen.build_arch_flags().split()]
        package = scratch / "torch.pt2"
        failure: Exception | None = None
        try:
            aoti_compile_and_package(program, package_path=str(package))
        except Exception as e:
            failure = e
        if failure is not None:  # out here it is not kept beside the other
            raise _readable(failure)
    known = LEVELS[level].split()
    return package, tuple(name for name in named if name not in known)


def _readable(failure: Exception) -> Exception:
    """What the C++ compiler said, if it was that: its command line is pages long."""
    found: BaseException | None = failure
    while found is not None and not isinstance(found, subprocess.CalledProcessError):
        found = found.__cause__ or found.__context__
    if found is None:
        return failure
    text = (found.output or b"").decode("utf-8", "replace")
    if os.strerror(errno.ENOSPC) in text:
        return StorageError(
            f"the C++ compiler cannot write: {os.strerror(errno.ENOSPC)}",
            remedy="free some space, or set TMPDIR to a folder that has it",
        )
    said = next((line.strip() for line in text.splitlines() if "error" in line), "no reason")
    return RuntimeError(f"the C++ compiler gives up: {said}\n{text}")


def _package(made: Path, source: Source, target: NativeTarget) -> bytes:
    """Torch's package without its C++, which is full of paths, and with what edgeport says."""
    reader = torch._C.PyTorchFileReader(str(made))
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for record in reader.get_all_records():
        kept = _kept_as(record)
        if kept is not None:
            data = reader.get_record(record)
            writer.write_record(kept, data, len(data))
    said = {EXTRA_FILE: json.dumps(source.signature.to_json()), TARGET_FILE: target.dumps()}
    for name, text in said.items():
        writer.write_record(f"extra/{name}", text.encode(), len(text.encode()))
    writer.write_end_of_file()
    return buffer.getvalue()


_ENDINGS: Final = {
    ".wrapper.so": LIBRARY,
    ".wrapper.json": CALLS,
    ".wrapper_metadata.json": METADATA,
    ".kernel_metadata.json": None,
    ".cpp": None,
}
"""What Inductor writes, behind a hash of the paths where it did."""


def _kept_as(record: str) -> str | None:
    """The name of a member of torch's package in ours; ``None`` for what is left out.

    Raises:
        ContractError: It is something that no package of ours holds.
    """
    if not record.startswith(f"{FOLDER}/"):
        return None if record in WRITTEN_BY_THE_WRITER else record
    for ending, name in _ENDINGS.items():
        if record.endswith(ending):
            return name and f"{FOLDER}/{name}"
    raise ContractError(
        f"the program needs {record.rpartition('/')[2]}, which no package of edgeport holds",
        remedy=f"leave {FORMAT} out with --format",
    )
