"""The packages say of each of their modules what it is for."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from edgeport.deploy import compilers
from edgeport.deploy.compilers import capture, narrower, onnx_files, operators, scripted


@pytest.mark.parametrize("package", [compilers, capture, narrower, onnx_files, operators, scripted])
def test_each_module_is_named(package: ModuleType) -> None:
    named = re.findall(r"``(\w+)``", package.__doc__ or "")
    here = Path(str(package.__file__)).parent
    there = {path.parent.stem for path in here.glob("*/__init__.py")}
    there |= {path.stem for path in here.glob("[!_]*.py")}
    assert there <= {*named}
