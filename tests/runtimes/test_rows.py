"""Rows: whether they can be answered in parts."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from edgeport.runtimes import Signature, TensorSpec, UsageError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.rows import require_apart

OF_ROWS = Signature(
    (TensorSpec("x", "float32", ("rows", 2)),), (TensorSpec("y", "float32", ("rows",)),)
)


@pytest.mark.parametrize(
    ("function", "is_apart"),
    [
        (lambda x: x.mean(1), True),
        (lambda x: x.mean(1).round(2), True),
        (lambda x: np.where(x[:, 0] == x[-1, 0], len(x) * 1e-9, 1), True),  # what nearly cancels
        (lambda x: np.where(x[:, 0] > 0, x[:, 1], np.nan), True),
        (lambda x: x.argmax(1), True),
        (lambda x: x[:, 0] - x[:, 0].mean(), False),
        (lambda x: x[:, 0].cumsum(), False),
        (lambda x: x[:, 0].argsort(), False),
    ],
)
def test_rows_that_depend_on_others_are_not_answered_in_parts(
    function: Callable[[Array], Array], is_apart: bool
) -> None:
    x = np.random.default_rng(0).normal(1, 1, (9, 2)).astype(np.float32)

    def ask(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return {"y": function(inputs["x"])}

    answer = ask({"x": x})
    if is_apart:
        require_apart(OF_ROWS, ask, {"x": x}, answer, "float32")
        return
    with pytest.raises(UsageError) as raised:
        require_apart(OF_ROWS, ask, {"x": x}, answer, "float32")
    assert str(raised.value) == (
        "output 'y' of a row depends on the rows beside it, and there are more than are answered "
        "at once\n  fix: use edgeport.runtimes.open and run it from Python"
    )


def test_rows_in_int8_are_rounded_by_the_range_of_all() -> None:
    x = np.random.default_rng(0).normal(1, 1, (9, 2)).astype(np.float32)
    x[0] *= 100

    def rounded(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        step = np.abs(inputs["x"]).max() / 127
        return {"y": (inputs["x"] / step).round()[:, 0] * step}

    def summed(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return {"y": inputs["x"][:, 0].cumsum()}

    require_apart(OF_ROWS, rounded, {"x": x}, rounded({"x": x}), "int8")
    for ask, precision in ((rounded, "float32"), (summed, "int8")):
        with pytest.raises(UsageError, match="output 'y' of a row depends on the rows beside it"):
            require_apart(OF_ROWS, ask, {"x": x}, ask({"x": x}), precision)
