"""The machine that native code was compiled for, and whether this is one like it.

A shared library of another instruction set ends the process with SIGILL in the middle of a call,
and one of another torch crashes or computes something else; so both are asked before it is loaded.
"""

import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from edgeport.runtimes.errors import FormatError
from edgeport.runtimes.formats.strict_json import expect, fields, parse
from edgeport.runtimes.values import dataclass

MACHINES: Final = ("x86_64",)
"""As ``platform.machine()``: those whose levels are known here."""

_V2: Final = "cx16 lahf_lm pni popcnt sse4_1 sse4_2 ssse3"
_V3: Final = f"{_V2} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"

LEVELS: Final[Mapping[str, str]] = {
    "x86-64": "",
    "x86-64-v2": _V2,
    "x86-64-v3": _V3,
    "x86-64-v4": f"{_V3} avx512bw avx512cd avx512dq avx512f avx512vl",
}
"""From each level of x86-64 to what Linux calls its instructions in ``/proc/cpuinfo``, the least
first: x86-64 psABI 1.0, table 3.1. https://gitlab.com/x86-psABIs/x86-64-ABI"""

_CPUINFO: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class NativeTarget:
    """What native code needs.

    Attributes:
        machine: As ``platform.machine()``: ``x86_64``.
        instructions: A key of ``LEVELS``, and what is used beyond it, as in ``/proc/cpuinfo``.
        torch: The release of the library that it calls, without its local label: ``2.13.0``.
    """

    machine: str
    instructions: tuple[str, ...]
    torch: str

    def dumps(self) -> str:
        """Write JSON."""
        return json.dumps(
            {
                "machine": self.machine,
                "instructions": list(self.instructions),
                "torch": self.torch,
            }
        )

    @classmethod
    def loads(cls, text: bytes | str, file: str) -> "NativeTarget":
        """Read what ``dumps`` wrote.

        Args:
            text: The JSON.
            file: What to call it in an error.

        Raises:
            FormatError: It is something else.
        """
        try:
            machine, instructions, torch = fields(parse(text), "machine", "instructions", "torch")
            return cls(
                expect(str, machine, "the machine"),
                tuple(
                    expect(str, each, "an instruction")
                    for each in expect(list, instructions, "the instructions")
                ),
                expect(str, torch, "the version of torch"),
            )
        except ValueError as e:
            raise FormatError(
                f"{file} does not say for which machine it was compiled: {e}",
                remedy="export it again",
            ) from e

    def mismatch(self, torch: str) -> str | None:
        """Why it cannot run here, as a clause; ``None`` if it can.

        Args:
            torch: The version that is installed here.
        """
        if self.machine != platform.machine():
            return f"it was compiled for {self.machine}, and this machine is {platform.machine()}"
        lacking = missing_instructions(self.instructions)
        if lacking:
            return (
                f"it was compiled for {', '.join(self.instructions)}, "
                f"and this CPU has no {', '.join(lacking)}"
            )
        if self.torch != release(torch):
            return f"it was compiled for torch {self.torch}, and this is torch {torch}"
        return None


def release(version: str) -> str:
    """A version without its local label.

    Examples:
        >>> release("2.13.0+cpu")
        '2.13.0'
    """
    return version.partition("+")[0]


def best_level() -> str:
    """The highest of ``LEVELS`` that this CPU has."""
    return [level for level in LEVELS if not missing_instructions([level])][-1]


def missing_instructions(wanted: Iterable[str]) -> list[str]:
    """What this CPU lacks of some instructions, each a level or a name of ``/proc/cpuinfo``."""
    names = [name for each in wanted for name in LEVELS.get(each, each).split()]
    here = {_plain(name) for name in cpu_flags()}
    return [name for name in dict.fromkeys(names) if _plain(name) not in here]


def cpu_flags() -> tuple[str, ...]:
    """What Linux says that the first CPU can do; nothing where it does not say."""
    try:
        text = _CPUINFO.read_text("utf-8")
    except (OSError, ValueError):
        return ()
    flags = (line for line in text.splitlines() if line.startswith("flags"))
    return tuple(next(flags, "").partition(":")[2].split())


def _plain(name: str) -> str:
    """GCC calls ``avx512vnni`` what Linux calls ``avx512_vnni``."""
    return name.replace("_", "").replace("-", "")
