"""Map, links and tree say the same; every package says what is in it; a device stays light."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
PACKAGES: list[str] = SETUPTOOLS["packages"]
MAP: dict[str, str] = SETUPTOOLS["package-dir"]
FOLDERS = sorted({folder for folder in MAP.values() if "/" not in folder})

each_package = pytest.mark.parametrize("package", PACKAGES)


@each_package
def test_the_links_lead_where_the_map_does(package: str) -> None:
    link = ROOT / package.replace(".", "/")
    if (ROOT / "edgeport" / "runtimes").is_file():
        pytest.skip("this checkout has no symbolic links (core.symlinks=false)")
    assert link.resolve() == (ROOT / MAP[package]).resolve()


def test_every_package_is_in_the_map_and_nothing_else() -> None:
    found = {
        init.parent.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert found == set(MAP.values())
    assert sorted(MAP) == sorted(PACKAGES)


def test_every_folder_of_code_is_a_package() -> None:
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), file


def test_the_types_ship() -> None:
    assert SETUPTOOLS["package-data"]["*"] == ["py.typed", "*.json", "*.c", "*.html"]
    for folder in FOLDERS:
        assert (ROOT / folder / "py.typed").is_file()


@each_package
def test_every_module_opens_with_what_it_is_for(package: str) -> None:
    for file in (ROOT / MAP[package]).glob("*.py"):
        docstring = ast.get_docstring(ast.parse(file.read_text("utf-8")))
        assert docstring, f"{file.relative_to(ROOT)} has no docstring"
        assert docstring.splitlines()[0].endswith((".", "?", "!")), file.name


def visible(module: ModuleType) -> list[str]:
    names = {*vars(module), *getattr(module, "__all__", [])}  # a lazy name is seen when asked for
    return sorted(
        name
        for name in names
        if not name.startswith("_") and not isinstance(getattr(module, name), ModuleType)
    )


@each_package
def test_all_equals_what_is_visible(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(getattr(module, "__all__", [])) == visible(module)


def loaded(code: str, *arguments: object) -> set[str]:
    """Top-level names of the modules that ``code`` loads in an interpreter of its own."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


WORKSTATION = {"torch", "onnx", "onnxscript", "sklearn", "scipy", "safetensors", "pandas"}


def test_the_device_side_loads_no_engine_until_one_is_wanted() -> None:
    names = loaded("import edgeport.runtimes")
    assert "numpy" in names
    assert not names & (WORKSTATION | {"onnxruntime", "httptools", "uvloop"})


def test_an_onnx_bundle_runs_and_is_proved_without_torch_or_onnx(packed: Path) -> None:
    code = (
        "import sys, numpy\n"
        "from pathlib import Path\n"
        "from edgeport import runtimes\n"
        "with runtimes.open(sys.argv[1], threads=1) as session:\n"
        "    session.run({'x': numpy.zeros((2, 8), 'float32')})\n"
        "bundle = runtimes.Bundle.read(Path(sys.argv[1]))\n"
        "assert runtimes.verify(bundle, ['ort-cpu']).passed"
    )
    names = loaded(code, packed)
    assert {"numpy", "onnxruntime"} <= names
    assert not names & WORKSTATION
