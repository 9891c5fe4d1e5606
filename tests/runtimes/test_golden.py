from collections.abc import Mapping

import numpy as np
import pytest
from safetensors.numpy import save

from edgeport.runtimes import FormatError
from edgeport.runtimes.golden import Golden, from_safetensors, to_tensors
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.manifest import KINDS, Kind

X = np.arange(4, dtype=np.float32)
ROUND = (
    Golden("first", "real", {"x/y": X, "0": X[:0]}, {"b": X, "a": X + 1}, {"a": X.astype("f8")}),
    Golden("second", "edge", {"x/y": X * 2, "0": X}, {"b": X, "a": X}, {}),
)


def labels(samples: tuple[Golden, ...]) -> list[tuple[str, Kind]]:
    return [(sample.name, sample.kind) for sample in samples]


def test_samples_come_back_as_they_were() -> None:
    found = from_safetensors(save(to_tensors(ROUND)), "golden", labels(ROUND))
    for sample, expected in zip(found, ROUND, strict=True):
        assert (sample.name, sample.kind) == (expected.name, expected.kind)
        for role in ("inputs", "eager", "oracle"):
            tensors: Mapping[str, Array] = getattr(sample, role)
            assert tensors.keys() == getattr(expected, role).keys()
            for name, array in tensors.items():
                np.testing.assert_array_equal(array, getattr(expected, role)[name], strict=True)


def test_arrays_that_are_laid_out_otherwise_are_written_right() -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    inputs = {
        "transposed": matrix.T,
        "broadcast": np.broadcast_to(X, (3, 4)),
        "0-d": X[1:2].squeeze(),
    }
    (found,) = from_safetensors(
        save(to_tensors([Golden("odd", "real", inputs, {}, {})])), "golden", [("odd", "real")]
    )
    for name, array in inputs.items():
        np.testing.assert_array_equal(found.inputs[name], array, strict=True)


def test_no_samples() -> None:
    assert from_safetensors(save({}), "golden", []) == ()
    assert KINDS == ("real", "random", "edge", "search")


@pytest.mark.parametrize(
    "key",
    [
        *("2/input/x", "-1/input/x", "+0/input/x", "00/input/x", " 0/input/x"),
        *("0/output/x", "0/input/", "0/input", "x", "", f"{'9' * 5000}/input/x"),
    ],
)
def test_a_tensor_of_no_sample(key: str) -> None:
    with pytest.raises(FormatError, match=r"^golden holds '.*', which belongs to no golden sample"):
        from_safetensors(save({**to_tensors(ROUND), key: X}), "golden", labels(ROUND))


@pytest.mark.parametrize(("name", "oracle"), [("z", X), ("a", X[:1]), ("a", X[None])])
def test_an_oracle_of_no_output(name: str, oracle: Array) -> None:
    tensors = {**to_tensors(ROUND), f"1/oracle/{name}": oracle.astype(np.float64)}
    message = f"golden: sample 'second' has an oracle for '{name}' that fits no output"
    with pytest.raises(FormatError, match=message):
        from_safetensors(save(tensors), "golden", labels(ROUND))


def test_a_damaged_file_is_named() -> None:
    with pytest.raises(FormatError, match="golden is not a safetensors file: it is shorter"):
        from_safetensors(b"", "golden", [])
