"""The packages say of each of their modules what it is for."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from edgeport.deploy import compilers
from edgeport.deploy.compilers import operators


@pytest.mark.parametrize("package", [compilers, operators])
def test_each_module_is_named(package: ModuleType) -> None:
    named = re.findall(r"``(\w+)``", package.__doc__ or "")
    there = {path.stem for path in Path(str(package.__file__)).parent.glob("[!_]*.py")}
    assert there <= {*named}
