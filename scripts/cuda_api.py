#!/usr/bin/env python
"""What cuda.h says of the functions and numbers that edgeport.runtimes.cuda uses, as JSON.

The header is in NVIDIA's wheels of the runtime, and no GPU is needed:

    pip download --no-deps nvidia-cuda-runtime nvidia-cuda-runtime-cu12
    python scripts/cuda_api.py nvidia_cuda_runtime*.whl > tests/runtimes/cuda/cuda_api.json
"""

import json
import re
import zipfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from edgeport.runtimes.cuda.driver import PROTOTYPES

CONSTANTS = re.compile(r"^ *((?:CUDA_ERROR|CU_\w+)\w*) *= *(0x[0-9A-Fa-f]+|\d+)", re.MULTILINE)
DEFINED = re.compile(r"^#define (CU_MEMHOSTALLOC_\w+) +(0x[0-9A-Fa-f]+|\d+)", re.MULTILINE)
WANTED = re.compile(
    r"CUDA_ERROR_\w+|CU_MEMHOSTALLOC_PORTABLE|CU_STREAM_NON_BLOCKING|CU_EVENT_DEFAULT"
    r"|CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_M..OR"
)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path)
    found = {}
    for wheel in parser.parse_args().wheels:
        header = read_header(wheel)
        major, minor = divmod(int(only(r"#define CUDA_VERSION (\d+)", header)), 1000)
        numbers = {**dict(CONSTANTS.findall(header)), **dict(DEFINED.findall(header))}
        found[f"{major}.{minor // 10}"] = {
            "functions": {name: arguments(header, name) for name in PROTOTYPES},
            "constants": {
                name: int(number, 0) for name, number in numbers.items() if WANTED.fullmatch(name)
            },
        }
    print(json.dumps(found, indent=1, sort_keys=True))


def read_header(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/include/cuda.h"))
        return archive.read(name).decode()


def arguments(header: str, exported: str) -> list[str]:
    """Types of a function's arguments. A macro renames the newest declaration: cuMemAlloc is
    exported as cuMemAlloc_v2, and what is declared under the old name comes later."""
    base = re.sub(r"_v\d+$", "", exported)
    renamed = re.search(rf"^ *#define {base} +(?:__CUDA_API_PT\w+\()?(\w+)", header, re.MULTILINE)
    current = base if renamed is None else renamed[1]
    declared = re.findall(rf"^ *CUresult CUDAAPI {base}\(([^)]*)\);", header, re.MULTILINE)
    if not declared or (current != exported and len(declared) < 2):
        raise SystemExit(f"{exported} is not in this header")
    chosen = declared[0] if current == exported else declared[-1]
    if chosen == "void":
        return []
    return [re.sub(r"\s*\w+$", "", each.strip()).strip() for each in chosen.split(",")]


def only(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"this header has no {pattern}")
    return found[1]


if __name__ == "__main__":
    main()
