import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport import runtimes
from edgeport.runtimes import FormatError, Signature, TensorSpec, UsageError
from edgeport.runtimes.structure import DEEPEST, Node, describe

X, Y, Z = (TensorSpec(name, "float32", (1,)) for name in "xyz")
OUTPUTS = {name: np.full(1, index, np.float32) for index, name in enumerate("yz")}
AT_Y, AT_Z = {"output": "y"}, {"output": "z"}

SCHEMA = json.loads((Path(runtimes.__file__).parent / "bundles/manifest.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator({"$defs": SCHEMA["$defs"], "$ref": "#/$defs/node"})


def deep(levels: int, end: Node) -> Node:
    """A structure of so many levels."""
    for _ in range(levels - 1):
        end = {"list": [end]}
    return end


def signature(structure: Node | None, outputs: tuple[TensorSpec, ...] = (Y, Z)) -> Signature:
    return Signature((X,), outputs, {}, structure)


@pytest.mark.parametrize(
    ("structure", "result", "text"),
    [
        ({"tuple": [AT_Y, AT_Z]}, (0, 1), "(y, z)"),
        ({"list": [AT_Z, AT_Y]}, [1, 0], "[z, y]"),
        ({"dict": [["b", AT_Z], [7, AT_Y]]}, {"b": 1, 7: 0}, "{'b': z, 7: y}"),
        (
            {"object": "ModelOutput", "fields": [["last", AT_Y], ["all", {"tuple": [AT_Z]}]]},
            {"last": 0, "all": (1,)},
            "ModelOutput(last=y, all=(z,))",
        ),
        (
            {"tuple": [AT_Y, {"list": []}, {"constant": None}, {"dict": [["n", AT_Z]]}]},
            (0, [], None, {"n": 1}),
            "(y, [], None, {'n': z})",
        ),
        (
            {"list": [AT_Y, AT_Z, *({"constant": c} for c in (True, -3, 0.5, "mean\n"))]},
            [0, 1, True, -3, 0.5, "mean\n"],
            r"[y, z, True, -3, 0.5, 'mean\n']",
        ),
        ({"tuple": [{"tuple": []}, {"dict": []}, AT_Y, AT_Z]}, ((), {}, 0, 1), "((), {}, y, z)"),
    ],
)
def test_a_result_is_rebuilt(structure: Node, result: object, text: str) -> None:
    declared = signature(structure)
    read = Signature.loads(json.dumps(declared.to_json()), "m")
    assert read == declared
    for each in (declared, read):
        rebuilt = each.rebuild(OUTPUTS)
        assert plain(rebuilt) == result
        assert repr(plain(rebuilt)) == repr(result)  # 1 == True, and {1: .., 2: ..} has an order
    assert describe(structure) == text
    assert str(declared) == f"x: float32[1] -> y: float32[1], z: float32[1] as {text}"
    VALIDATOR.validate(structure)


def plain(result: object) -> object:
    """Arrays as the number that they hold."""
    if isinstance(result, dict):
        return {key: plain(value) for key, value in result.items()}
    if isinstance(result, tuple | list):
        return type(result)(map(plain, result))
    return int(result[0]) if isinstance(result, np.ndarray) else result


def test_the_arrays_are_those_that_were_given() -> None:
    rebuilt = signature({"list": [AT_Y, AT_Z]}).rebuild(OUTPUTS)
    assert isinstance(rebuilt, list)
    assert rebuilt[0] is OUTPUTS["y"]


def test_without_a_structure_outputs_are_alone_or_a_tuple() -> None:
    assert signature(None).rebuild(OUTPUTS) == (OUTPUTS["y"], OUTPUTS["z"])
    assert signature(None, (Y,)).rebuild({"y": OUTPUTS["y"]}) is OUTPUTS["y"]
    assert signature(None, ()).rebuild({}) == ()
    assert signature({"tuple": [AT_Y]}, (Y,)).rebuild({"y": OUTPUTS["y"]}) == (OUTPUTS["y"],)
    assert Signature.from_json(signature(None).to_json()).structure is None


def test_the_order_is_the_signatures_not_the_mappings() -> None:
    turned = dict(reversed(OUTPUTS.items()))
    assert plain(signature(None).rebuild(turned)) == (0, 1)


@pytest.mark.parametrize("structure", [None, {"tuple": [AT_Y, AT_Z]}])
@pytest.mark.parametrize(
    ("names", "found"), [((), "nothing"), (("y",), "y"), (("y", "z", "w"), "y, z, w")]
)
def test_other_outputs_than_the_signatures(
    structure: Node | None, names: tuple[str, ...], found: str
) -> None:
    with pytest.raises(
        UsageError, match=f"^got {found} to rebuild a result from, expected y, z\n  fix: pass what"
    ):
        signature(structure).rebuild(dict.fromkeys(names, OUTPUTS["y"]))


NO_NODES: list[tuple[Any, str]] = [
    ({}, "{} is not a node"),
    (3, "3 is not a node"),
    ("y", "'y' is not a node"),
    ([AT_Y, AT_Z], r"\[.*\] is not a node"),
    ({"set": [AT_Y, AT_Z]}, "{'set': .*} is not a node"),
    ({"output": 3}, "{'output': 3} is not a node"),
    ({"output": None}, "{'output': None} is not a node"),
    ({"output": "y", "dtype": "bool"}, "'dtype': 'bool'.* is not a node"),
    ({"tuple": AT_Y}, "{'tuple': {'output': 'y'}} is not a node"),
    ({"tuple": [AT_Y], "list": [AT_Z]}, "is not a node"),
    ({"list": "yz"}, "{'list': 'yz'} is not a node"),
    ({"list": [AT_Y, "z"]}, "'z' is not a node"),
    ({"dict": {"a": AT_Y}}, "{'dict': {'a': .*}} is not a node"),
    ({"dict": [["a", AT_Y, AT_Z]]}, r"\['a', .*\] is not a key, used once, and its node"),
    ({"dict": ["ab"]}, "'ab' is not a key, used once, and its node"),
    ({"dict": [[True, AT_Y]]}, r"\[True, .*\] is not a key, used once, and its node"),
    ({"dict": [[None, AT_Y]]}, r"\[None, .*\] is not a key, used once, and its node"),
    ({"dict": [[[], AT_Y]]}, r"\[\[\], .*\] is not a key, used once, and its node"),
    ({"object": "Out", "fields": {"a": AT_Y}}, "is not a node"),
    ({"object": "Out"}, "{'object': 'Out'} is not a node"),
    ({"fields": [["a", AT_Y]]}, "is not a node"),
    ({"object": "", "fields": [["a", AT_Y]]}, "is not a node"),
    ({"object": "a\x1b[2J", "fields": [["a", AT_Y]]}, "is not a node"),
    ({"object": 3, "fields": [["a", AT_Y]]}, "is not a node"),
    ({"object": "Out", "fields": [[1, AT_Y]]}, r"\[1, .*\] is not a key, used once, and its node"),
    ({"object": "Out", "fields": [["", AT_Y]]}, r"\['', .*\] is not a key"),
    ({"object": "Out", "fields": [["a\nb", AT_Y]]}, r"\['a\\nb', .*\] is not a key"),
    ({"constant": []}, r"{'constant': \[\]} is not a node"),
    ({"constant": {}}, "{'constant': {}} is not a node"),
    ({"constant": 1, "more": 1}, "is not a node"),
]

BEYOND_THE_SCHEMA: list[tuple[Any, str]] = [
    ({"dict": [[1.0, AT_Y]]}, r"\[1\.0, .*\] is not a key, used once, and its node"),
    ({"constant": float("nan")}, "{'constant': nan} is not a node"),
    ({"constant": float("-inf")}, "{'constant': -inf} is not a node"),
    ({"constant": np.float64(1)}, "is not a node"),
    ({"dict": [["a", AT_Y], ["a", AT_Z]]}, r"\['a', .*\] is not a key, used once, and its node"),
    ({"object": "O", "fields": [["a", AT_Y], ["a", AT_Z]]}, "is not a key, used once, and its"),
    (deep(DEEPEST + 1, AT_Y), "it nests more than 64 levels deep"),
    (deep(100_000, AT_Y), "it nests more than 64 levels deep"),
]


@pytest.mark.parametrize(("structure", "message"), NO_NODES + BEYOND_THE_SCHEMA)
def test_what_is_no_structure(structure: Any, message: str) -> None:
    with pytest.raises(FormatError, match=f"^not a structure of outputs: .*{message}") as caught:
        signature(structure)
    assert str(caught.value).count("fix: export the model again") == 1
    with pytest.raises(FormatError, match=message):
        Signature.from_json({**signature(None).to_json(), "structure": structure})


@pytest.mark.parametrize("structure", [structure for structure, _ in NO_NODES])
def test_the_schema_refuses_it_too(structure: Any) -> None:
    assert not VALIDATOR.is_valid(structure)


@pytest.mark.parametrize(
    ("structure", "found"),
    [
        (AT_Y, "y"),
        ({"tuple": [AT_Y, AT_Z, AT_Y]}, "y, z, y"),
        ({"tuple": [AT_Y, AT_Y]}, "y, y"),
        ({"tuple": [AT_Y, {"output": "w"}]}, "y, w"),
        ({"tuple": [AT_Y, AT_Z, {"output": "w"}]}, "y, z, w"),
        ({"constant": None}, "no output"),
    ],
)
def test_every_output_is_named_once(structure: Node, found: str) -> None:
    with pytest.raises(
        FormatError, match=f"^the structure holds {found}, the outputs are y, z\n  fix: name every"
    ):
        signature(structure)


def test_it_may_nest_as_deep_as_is_said() -> None:
    structure = deep(DEEPEST, {"output": "y"})
    declared = Signature.loads(json.dumps(signature(structure, (Y,)).to_json()), "m")
    rebuilt = declared.rebuild({"y": OUTPUTS["y"]})
    for _ in range(DEEPEST - 1):
        assert isinstance(rebuilt, list)
        (rebuilt,) = rebuilt
    assert rebuilt is OUTPUTS["y"]


def test_another_structure_is_another_signature() -> None:
    structures: list[Node | None] = [None, {"tuple": [AT_Y, AT_Z]}, {"list": [AT_Y, AT_Z]}]
    declared = [signature(structure) for structure in structures]
    assert len({str(each) for each in declared}) == len(structures)
    assert declared[0] != declared[1] != declared[2] != declared[0]
    assert dataclasses.replace(declared[0], structure=structures[2]) == declared[2]


keys = st.text(min_size=1, max_size=3).filter(str.isprintable)
constants = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


def containers(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    items = st.lists(inner, max_size=3)

    def pairs(names: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[Any]]]:
        return st.dictionaries(names, inner, max_size=3).map(lambda d: list(map(list, d.items())))

    return st.one_of(
        items.map(lambda nodes: {"tuple": nodes}),
        items.map(lambda nodes: {"list": nodes}),
        pairs(st.text() | st.integers()).map(lambda pairs: {"dict": pairs}),
        st.builds(lambda name, fields: {"object": name, "fields": fields}, keys, pairs(keys)),
    )


leaves = st.just({"output": "?"}) | constants.filter(lambda c: c not in (np.inf, -np.inf)).map(
    lambda constant: {"constant": constant}
)


@given(st.recursive(leaves, containers, max_leaves=12))
def test_json_says_it_all(structure: Node) -> None:
    text, count = json.dumps(structure), 0
    while '{"output": "?"}' in text:
        text, count = text.replace('{"output": "?"}', f'{{"output": "{count}"}}', 1), count + 1
    structure = json.loads(text)
    outputs = tuple(TensorSpec(str(index), "bool", ()) for index in range(count))
    declared = Signature((), outputs, structure=structure)
    arrays = {spec.name: np.array(True) for spec in outputs}
    read = Signature.loads(json.dumps(declared.to_json()), "m")
    assert read == declared
    assert repr(read.rebuild(arrays)) == repr(declared.rebuild(arrays))
    VALIDATOR.validate(structure)
