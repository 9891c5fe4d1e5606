"""Every call that is made on TensorRT's objects is in the published bindings, as it is made.

``tensorrt_api.json`` is what ``scripts/tensorrt_api.py`` read from the bindings of TensorRT 10.13,
10.16, 11.4 and TensorRT-RTX 1.7. Running an engine is written against the types in ``api.py``,
which a type checker holds the calls against; those types are held against the bindings here.
Building one is not, so its calls are found in its source, by the names of its variables.
"""

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeport.runtimes.tensorrt import api, tensors

ROOT = Path(__file__).parents[3]
FACTS = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())
BINDINGS: list[str] = FACTS["bindings"]
CLASSES: dict[str, dict[str, list[Any]]] = FACTS["classes"]

each_binding = pytest.mark.parametrize("binding", range(len(BINDINGS)), ids=BINDINGS)

PROTOCOLS = [
    (owner, name, member)
    for owner in (api.Runtime, api.ICudaEngine, api.IExecutionContext, api.IOutputAllocator)
    for name, member in vars(owner).items()
    if not name.startswith("_")
]

ENUMERATIONS = {
    "DataType": [*tensors.DTYPES],
    "TensorIOMode": ["INPUT"],
    "TensorLocation": ["HOST"],
    "TensorFormat": ["LINEAR"],
}


def fact(binding: int, owner: str, member: str) -> Any:
    """What a binding says of a member: "property", "value", overloads; None if it has none."""
    for one, bindings in CLASSES.get(owner, {}).get(member, []):
        if binding in bindings:
            return one
    return None


def test_the_versions_are_those_that_are_promised() -> None:
    versions = [each.split()[1].split(".")[:2] for each in BINDINGS]
    assert versions == [["10", "13"], ["10", "16"], ["11", "4"], ["1", "7"]]


@each_binding
@pytest.mark.parametrize(
    ("owner", "name", "member"), PROTOCOLS, ids=[f"{o.__name__}.{n}" for o, n, _ in PROTOCOLS]
)
def test_a_type_of_ours_is_one_of_theirs(
    binding: int, owner: type, name: str, member: object
) -> None:
    found = fact(binding, owner.__name__, name)
    if isinstance(member, property):
        assert found == "property"
        return
    assert callable(member)
    ours = list(inspect.signature(member).parameters)[1:]
    assert isinstance(found, list), f"{BINDINGS[binding]} has no {owner.__name__}.{name}"
    assert any(takes(overload, len(ours)) and named(overload, ours) for overload in found), found


@each_binding
def test_the_enumerations_have_the_names_that_are_compared(binding: int) -> None:
    for owner, names in ENUMERATIONS.items():
        assert fact(binding, owner, "name") == "property"
        for name in names:
            assert fact(binding, owner, name) == "value", f"{owner}.{name}"


def test_kernels_are_compiled_at_once_by_the_one_that_compiles_them() -> None:
    rtx = next(n for n, name in enumerate(BINDINGS) if "rtx" in name)
    (name,) = (each for each in vars(api.IRuntimeConfig) if not each.startswith("_"))
    assert fact(rtx, "IRuntimeConfig", name) == "property"
    assert fact(rtx, "DynamicShapesKernelSpecializationStrategy", "EAGER") == "value"


def takes(overload: list[str], count: int) -> bool:
    """Whether so many positional arguments are enough and not too many."""
    return len([name for name in overload if not name.endswith("=")]) <= count <= len(overload)


def named(overload: list[str], names: list[str]) -> bool:
    return [name.rstrip("=") for name in overload[: len(names)]] == names


VARIABLES = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "error": "ParserError",
    "failed": "OnnxParser",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
}
"""What is called so in the source of the builder."""

GUARDED = {
    # only asked where compute capabilities were, and only TensorRT-RTX takes them
    ("IBuilderConfig", "num_compute_capabilities"): {"tensorrt_rtx_cu13_bindings"},
    ("IBuilderConfig", "set_compute_capability"): {"tensorrt_rtx_cu13_bindings"},
    ("IBuilderConfig", "get_compute_capability"): {"tensorrt_rtx_cu13_bindings"},
}
"""What some bindings lack, and which have it."""


def uses() -> Iterator[tuple[str, str, ast.Call | None, str]]:
    """Each use of an attribute of an object of TensorRT: class, member, call or None, place."""
    for file in sorted((ROOT / "runtimes" / "tensorrt").glob("*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner = VARIABLES.get(node.value.id)
                if owner is not None and file.name == "builder.py":
                    yield owner, node.attr, calls.get(id(node)), f"{file.name}:{node.lineno}"


USES = list(uses())


def test_the_builder_is_among_what_is_checked() -> None:
    assert {owner for owner, *_ in USES} >= {"Builder", "IBuilderConfig", "INetworkDefinition"}


@each_binding
def test_what_builds_engines_calls_what_there_is(binding: int) -> None:
    product = BINDINGS[binding].split()[0]
    for owner, member, call, place in USES:
        if product not in GUARDED.get((owner, member), {product}):
            continue
        found = fact(binding, owner, member)
        assert found is not None, f"{place}: {BINDINGS[binding]} has no {owner}.{member}"
        if call is None:
            continue
        keywords = [each.arg for each in call.keywords]
        assert any(
            takes(overload, len(call.args) + len(keywords))
            and set(keywords) <= {name.rstrip("=") for name in overload[len(call.args) :]}
            for overload in found
        ), f"{place}: {BINDINGS[binding]} has {owner}.{member}{found}"


def classes_of_the_module() -> Iterator[tuple[str, str]]:
    """What is taken from TensorRT's module: ``module.X``, ``trt.X``, ``library.module.X``."""
    for file in sorted((ROOT / "runtimes" / "tensorrt").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and not node.attr.startswith("_"):
                base = node.value
                name = base.id if isinstance(base, ast.Name) else getattr(base, "attr", None)
                if name in ("trt", "module"):
                    yield node.attr, f"{file.name}:{node.lineno}"


@each_binding
def test_what_is_taken_from_the_module_is_there(binding: int) -> None:
    taken = dict(classes_of_the_module())
    assert taken.keys() >= {"Runtime", "Builder", "ILogger", "IOutputAllocator", "OnnxParser"}
    for name, place in taken.items():
        if name == "ComputeCapability" and "rtx" not in BINDINGS[binding]:
            continue  # only TensorRT-RTX builds for a GPU that is not here
        there = any(
            binding in each for member in CLASSES.get(name, {}).values() for _, each in member
        )
        assert there, f"{place}: {BINDINGS[binding]} has no {name}"
