"""Find a C compiler for a device, and call it.

The system's own serves this machine. For another one a cross compiler or zig is needed; zig brings
the C libraries of all of them: ``pip install ziglang``.
"""

import errno
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from edgeport.runtimes.errors import BackendMissingError, EngineError, UsageError

TARGETS: Final = {  # what a user says -> zig's name; glibc 2.28 is what onnxruntime's wheels need
    "aarch64-linux": "aarch64-linux-gnu.2.28",
    "x86_64-linux": "x86_64-linux-gnu.2.28",
}

_FLAGS: Final = ["-std=c99", "-O2", "-s", "-Wall", "-Wextra", "-Werror"]


def compile_c(source: Path, program: Path, target: str | None = None) -> bytes:
    """Compile one C file.

    Args:
        source: The C file.
        program: What to make of it; what the compiler needs meanwhile is beside it.
        target: A key of ``TARGETS``; ``None`` for this machine.

    Returns:
        The program.

    Raises:
        UsageError: There is no such target, or CC is no command.
        BackendMissingError: No compiler for it is installed, or the one that CC names is not there.
        OSError: There is no room for the program.
        EngineError: The compiler failed.
    """
    command = [*find_compiler(target), *_FLAGS, "-o", str(program), str(source), "-ldl"]
    environment = {**os.environ, "TMPDIR": str(program.parent), "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as e:  # what CC names
        raise BackendMissingError(
            f"the compiler {shlex.join(command[:1])} cannot be started: {e.strerror or e}",
            remedy="set CC to a C compiler, or leave it out",
        ) from e
    if os.strerror(errno.ENOSPC) in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if done.returncode or not program.is_file():
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        told = (lines or [done.stderr.strip() or "it made no program"])[0]
        raise EngineError(
            f"{shlex.join(command[:1])} failed: {told}",
            remedy="try another compiler: set CC, or pip install ziglang",
        )
    return program.read_bytes()


def find_compiler(target: str | None = None) -> list[str]:
    """The command that compiles C for a target.

    Raises:
        UsageError: There is no such target, or CC is no command.
        BackendMissingError: No compiler for it is installed.
    """
    here = f"{platform.machine()}-{sys.platform}"
    if target is not None and target not in TARGETS:
        raise UsageError(
            f"no target is named {target!r}", remedy=f"use one of {', '.join(TARGETS)}"
        )
    if target in (None, here):
        if own := _own_compiler():
            return own
        names = ["cc", "gcc", "clang"]
    else:
        names = [f"{target}-gnu-gcc"]  # Debian's cross compilers
    for name in names:
        if shutil.which(name):
            return [name]
    if zig := _zig():
        return [*zig, "cc", "-target", TARGETS[target]] if target else [*zig, "cc"]
    raise BackendMissingError(
        f"no C compiler for {target or here} is installed: looked for {', '.join(names)}, zig",
        remedy="pip install ziglang",
    )


def _own_compiler() -> list[str]:
    """What CC says; nothing where it is not set."""
    own = os.environ.get("CC", "")
    try:
        return shlex.split(own)
    except ValueError as e:  # a quote that does not end
        raise UsageError(f"CC is {own!r}: {e}", remedy="set CC to a C compiler") from e


def _zig() -> list[str] | None:
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang"]
    return ["zig"] if shutil.which("zig") else None
