#!/usr/bin/env python
"""The names in TensorRT's Python bindings and the names of their parameters, as JSON.

The bindings are on the package index even where the library is not. A library of empty functions
takes its place, so that Python imports them; nothing of TensorRT is run, and no GPU is needed:

    for each in tensorrt_cu12_bindings==10.13.3.9 tensorrt_cu13_bindings==11.4.0.106; do
        pip download --no-deps --only-binary :all: $each
    done
    python scripts/tensorrt_api.py *.whl > tests/runtimes/tensorrt/tensorrt_api.json

It needs cc, nm and readelf, and a Python of the wheels' version.
"""

import contextlib
import importlib.machinery
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

Facts = dict[str, dict[str, Any]]  # class -> member -> "property", "value" or its overloads


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="WHEEL")
    parser.add_argument("--one", action="store_true", help="it is a library, to be loaded here")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(facts(load(arguments.files[0]))))
        return
    found = {}
    for wheel in arguments.files:
        with unpacked(wheel) as library:
            command = [sys.executable, __file__, "--one", str(library)]
            environment = {"LD_LIBRARY_PATH": str(library.parent)}
            answer = subprocess.run(command, env=environment, capture_output=True, check=True)
            product, version, *_ = wheel.name.split("-")
            found[f"{product} {version}"] = json.loads(answer.stdout)
    print(json.dumps(merged(found), sort_keys=True, separators=(",", ":")).replace("},", "},\n"))


@contextlib.contextmanager
def unpacked(wheel: Path) -> Iterator[Path]:
    """The extension module of a wheel, beside empty libraries that it can be loaded with."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if re.search(r"_bindings/\w+\.so$", name))
        library = Path(archive.extract(name, folder))
        symbols = re.findall(r" U ((?!_?Py)\w+)\n", output("nm", "-D", "-u", str(library)))
        source = library.parent / "empty.c"
        source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
        needed = output("readelf", "-d", str(library))
        for each in re.findall(r"\[(lib(?:nv|tensorrt)[^\]]*)\]", needed):
            output("cc", "-shared", "-o", str(library.parent / each), str(source))
        yield library


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def load(library: Path) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(library.stem, str(library))
    spec = importlib.util.spec_from_loader(library.stem, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def facts(module: ModuleType) -> Facts:
    return {
        name: {
            member: fact(found, member)
            for member in dir(found)
            if member == "__init__" or not member.startswith("_")
        }
        | overridden(found)
        for name, found in inspect.getmembers(module, inspect.isclass)
    }


def overridden(found: type) -> dict[str, Any]:
    """Methods that a class calls on what is derived from it: its documentation shows them."""
    shown = re.findall(r"^ *def (\w+)\(self(?:, )?(.*)\):", found.__doc__ or "", re.MULTILINE)
    return {name: [parameters(text)] for name, text in shown if not hasattr(found, name)}


def fact(owner: type, member: str) -> Any:
    static = inspect.getattr_static(owner, member)
    if isinstance(static, property):
        return "property"
    found = getattr(owner, member)
    if not callable(found):
        return "value"
    text = found.__doc__ or ""
    overloads = re.findall(rf"^(?:\d+\. )?{member}\((.*)\) ->", text, re.MULTILINE)
    return [parameters(each) for each in overloads]


def parameters(text: str) -> list[str]:
    """Names, with ``=`` behind one that may be left out; types may have commas in brackets."""
    depth, current, found = 0, "", []
    for character in text.replace("->", ""):
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            found.append(current)
            current = ""
        else:
            current += character
    names = [
        each.split(":")[0].strip() + ("=" if re.search(r" = ", each) else "")
        for each in [*found, current]
    ]
    return [name for name in names if name not in ("", "self")]


def merged(found: dict[str, Facts]) -> dict[str, Any]:
    """What is the same in several versions once: member -> [[fact, versions], ...]."""
    classes: dict[str, dict[str, list[tuple[Any, list[int]]]]] = {}
    for index, version in enumerate(found.values()):
        for name, members in version.items():
            for member, one in members.items():
                told = classes.setdefault(name, {}).setdefault(member, [])
                same = [versions for fact, versions in told if fact == one]
                if same:
                    same[0].append(index)
                else:
                    told.append((one, [index]))
    return {"bindings": list(found), "classes": classes}


if __name__ == "__main__":
    main()
