"""Which signature an opened engine has."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgeport.runtimes import (
    ContractError,
    FormatError,
    Options,
    Range,
    Signature,
    TensorSpec,
)
from edgeport.runtimes.tensorrt.order import Bounds
from edgeport.runtimes.tensorrt.tensors import (
    ANSWERED,
    DTYPES,
    Tensor,
    Tensors,
    carry,
    precision_of,
    signature,
)

PATH = Path("m.engine")
TENSORS = Tensors(
    (
        Tensor("mask", "bool", (3,), on_host=False),
        Tensor("x", "float32", (-1, 8), False, Bounds((1, 8), (4, 8), (64, 8))),
    ),
    (
        Tensor("label", "int64", (-1,), on_host=False),
        Tensor("y", "float16", (-1, 3), on_host=False),
    ),
)
DECLARED = Signature(
    (TensorSpec("x", "float32", ("batch", 8)), TensorSpec("mask", "bool", (3,))),
    (TensorSpec("y", "float16", ("batch", 3)), TensorSpec("label", "int64", ("batch",))),
    {"batch": Range(1, 64)},
    {"dict": [["scores", {"output": "y"}], ["best", {"output": "label"}]]},
)
UNNAMED = "Unnamed Network 0"


def carried() -> str:
    name = carry(DECLARED)
    assert name is not None
    return name


def test_a_signature_survives_in_the_name_of_a_network() -> None:
    assert signature(PATH, TENSORS, carried(), Options()) == DECLARED
    asked = Options(signature=DECLARED)
    assert signature(PATH, TENSORS, carried(), asked) == DECLARED


def test_an_engine_that_carries_none_has_the_one_that_was_asked_for() -> None:
    assert signature(PATH, TENSORS, UNNAMED, Options(signature=DECLARED)) == DECLARED


def test_an_engine_of_nobody_has_what_tensorrt_knows() -> None:
    assert str(signature(PATH, TENSORS, UNNAMED, Options())) == (
        "mask: bool[3], x: float32[x_0, 8] -> label: int64[label_0], y: float16[y_0, 3] "
        "where x_0 in 1..64"
    )


def test_tensors_are_put_in_the_order_of_the_signature() -> None:
    ordered = TENSORS.like(DECLARED)
    assert [each.name for each in ordered.inputs] == ["x", "mask"]
    assert [each.name for each in ordered.outputs] == ["y", "label"]


def test_whether_it_answered_is_no_output_of_a_signature() -> None:
    tells = replace(TENSORS, answered=(Tensor(ANSWERED, "bool", (), on_host=False),))
    assert signature(PATH, tells, carried(), Options()) == DECLARED
    assert ANSWERED not in str(signature(PATH, tells, UNNAMED, Options()))
    assert tells.like(DECLARED).answered == tells.answered


def test_another_signature_than_the_one_asked_for() -> None:
    other = Options(signature=replace(DECLARED, ranges={"batch": Range(1, 8)}))
    with pytest.raises(ContractError, match=r"m\.engine declares .*\n  but .*1\.\.8 was asked for"):
        signature(PATH, TENSORS, carried(), other)


@pytest.mark.parametrize(
    "other",
    [
        TensorSpec("z", "float32", ("batch", 8)),
        TensorSpec("x", "float64", ("batch", 8)),
        TensorSpec("x", "float32", ("batch", 8, 1)),
        TensorSpec("x", "float32", ("batch", 9)),
        TensorSpec("x", "float32", ("batch", "features")),
    ],
)
def test_a_signature_of_another_engine(other: TensorSpec) -> None:
    declared = replace(DECLARED, inputs=(other, DECLARED.inputs[1]))
    for name, options in (
        (carry(declared) or "", Options()),
        (UNNAMED, Options(signature=declared)),
    ):
        with pytest.raises(
            ContractError,
            match=r"^m\.engine declares .*\n  but the engine has mask: bool\[3\], "
            r"x: float32\[\?, 8\] -> label: int64\[\?\], y: float16\[\?, 3\]\n  fix: export",
        ):
            signature(PATH, TENSORS, name, options)


def test_tensorrt_may_know_an_output_better() -> None:
    known = replace(TENSORS, outputs=(replace(TENSORS.outputs[0], shape=(64,)), TENSORS.outputs[1]))
    assert signature(PATH, known, carried(), Options()) == DECLARED


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (carried()[:-5] + "!", "the signature that it carries is damaged: "),
        (carried()[:40] + carried()[44:], "the signature that it carries is damaged: "),
        ("edgeport.signature:", "not a signature: "),
    ],
)
def test_a_carried_signature_that_is_damaged(name: str, problem: str) -> None:
    with pytest.raises(FormatError, match=rf"^digits\.edge: {problem}"):
        signature(PATH, TENSORS, name, Options(name="digits.edge"))


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        (carry(DECLARED, "int8"), "int8"),
        (carry(DECLARED, "float16"), "float16"),
        (carry(DECLARED), "float16"),  # of its output
        (UNNAMED, "float16"),
        ("mine;int8", "float16"),  # of somebody else's network
    ],
)
def test_a_precision_survives_in_the_name_of_a_network(name: str, precision: str) -> None:
    assert signature(PATH, TENSORS, name, Options(signature=DECLARED)) == DECLARED
    assert precision_of(name, DECLARED) == precision


def many(count: int) -> Signature:
    shape = ("batch", 12, "time", 64)
    return Signature(
        tuple(TensorSpec(f"past_key_values.{n}.key", "float16", shape) for n in range(count)), ()
    )


def test_a_signature_that_is_too_long_for_a_name_is_left_to_the_bundle() -> None:
    assert len(carry(many(300)) or "x" * 5000) < 4096
    assert carry(many(10_000)) is None


def test_the_dtypes_are_those_a_signature_has() -> None:
    for dtype in DTYPES.values():
        assert TensorSpec("x", dtype, ()).dtype == dtype
