import math

import pytest

from edgeport.runtimes import UsageError
from edgeport.runtimes.parity.thresholds import (
    DEFAULT_MAX_RATIO,
    EDGE_LENIENCY,
    LARGEST_MAX_RATIO,
    REDUCED,
    Reduced,
    Thresholds,
    floor_scale,
)


def test_an_output_may_have_a_ratio_of_its_own() -> None:
    thresholds = Thresholds(outputs={"logits": 2})
    assert thresholds.ratio_of("other") == DEFAULT_MAX_RATIO
    assert thresholds.ratio_of("logits") == 2
    assert thresholds.ratio_of("logits", edge=True) == 2 * EDGE_LENIENCY
    assert Thresholds(LARGEST_MAX_RATIO).ratio_of("y", edge=True) == LARGEST_MAX_RATIO


def test_other_ratios() -> None:
    found = Thresholds(5, ("c",), {"a": 1, "b": 2}).with_ratios({None: 4, "b": 3})
    assert found == Thresholds(4, ("c",), {"a": 1, "b": 3})
    assert Thresholds(5).with_ratios({}) == Thresholds(5)


@pytest.mark.parametrize("ratio", [0, -1, math.nan, math.inf])
def test_a_ratio_that_is_no_bar(ratio: float) -> None:
    with pytest.raises(UsageError, match=f"the largest ratio of y is {ratio}, expected more than"):
        Thresholds(outputs={"y": ratio})


@pytest.mark.parametrize(("snr", "flips"), [(-1, 0), (201, 0), (math.nan, 0), (30, -0.1), (30, 2)])
def test_a_reduced_precision_that_is_no_bar(snr: float, flips: float) -> None:
    with pytest.raises(UsageError, match=r"expected 0 to 200 and 0 to 1\n  fix: leave them out"):
        Reduced(snr, flips)


def test_thresholds_of_outputs_that_are_not_there() -> None:
    Thresholds(constant_outputs=("a",), outputs={"b": 1}).check_outputs(["a", "b"])
    for thresholds in (Thresholds(constant_outputs=("c",)), Thresholds(outputs={"c": 1})):
        with pytest.raises(UsageError, match="no output is named 'c'\n  fix: the outputs are a, b"):
            thresholds.check_outputs(["a", "b"])


def test_they_become_json_and_come_back() -> None:
    thresholds = Thresholds(3, ("a",), {"b": 2.5}, {**REDUCED, "int8": Reduced(30, 0.2)})
    assert Thresholds.from_json(thresholds.to_json()) == thresholds


@pytest.mark.parametrize(
    ("precision", "module", "scale"),
    [
        ("float16", "float32", 2**13),
        ("bfloat16", "float32", 2**16),
        ("float16", "float64", 2**42),
        ("int8", "float32", math.inf),
        ("float16", "int64", math.inf),
    ],
)
def test_how_much_coarser_a_precision_is(precision: str, module: str, scale: float) -> None:
    assert floor_scale(precision, module) == scale
