"""Find a C compiler for a device, and call it.

The system's own serves this machine. For another one a cross compiler or zig is needed; zig brings
the C libraries of all of them: ``pip install ziglang``.
"""

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


def compile_c(source: Path, program: Path, target: str | None = None) -> None:
    """Compile one C file.

    Args:
        source: The C file.
        program: What to make of it.
        target: A key of ``TARGETS``; ``None`` for this machine.

    Raises:
        UsageError: There is no such target.
        BackendMissingError: No compiler for it is installed.
        EngineError: The compiler failed.
    """
    command = [*find_compiler(target), *_FLAGS, "-o", str(program), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise EngineError(
            f"{shlex.join(command[:1])} failed: {(lines or [done.stderr.strip()])[0]}",
            remedy="try another compiler: set CC, or pip install ziglang",
        )


def find_compiler(target: str | None = None) -> list[str]:
    """The command that compiles C for a target.

    Raises:
        UsageError: There is no such target.
        BackendMissingError: No compiler for it is installed.
    """
    here = f"{platform.machine()}-{sys.platform}"
    if target is not None and target not in TARGETS:
        raise UsageError(
            f"no target is named {target!r}", remedy=f"use one of {', '.join(TARGETS)}"
        )
    if target in (None, here):
        if os.environ.get("CC"):
            return shlex.split(os.environ["CC"])
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


def _zig() -> list[str] | None:
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang"]
    return ["zig"] if shutil.which("zig") else None
