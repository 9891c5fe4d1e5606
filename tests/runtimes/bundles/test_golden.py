from collections.abc import Mapping

import numpy as np
import pytest
from safetensors.numpy import save

from edgeport.runtimes import FormatError
from edgeport.runtimes.bundles.golden import MOST_NOISE, Golden, from_safetensors, to_tensors
from edgeport.runtimes.bundles.manifest import KINDS, Kind
from edgeport.runtimes.inputs import Array

X = np.arange(4, dtype=np.float32)
ROUND = (
    Golden("first", "real", {"x/y": X, "0": X[:0]}, {"b": X, "a": X + 1}, {"a": X.astype("f8")}),
    Golden(
        "second",
        "edge",
        {"x/y": X * 2, "0": X},
        {"b": X, "a": X},
        {"a": X.astype("f8")},
        noise={"a": np.array([1e-7, 2e-7])},
    ),
)


def labels(samples: tuple[Golden, ...]) -> list[tuple[str, Kind]]:
    return [(sample.name, sample.kind) for sample in samples]


def test_samples_come_back_as_they_were() -> None:
    found = from_safetensors(save(to_tensors(ROUND)), "golden", labels(ROUND))
    for sample, expected in zip(found, ROUND, strict=True):
        assert (sample.name, sample.kind) == (expected.name, expected.kind)
        for role in ("inputs", "eager", "oracle", "noise"):
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


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("z", np.zeros(2)),
        ("a", np.zeros(3)),
        ("a", np.zeros(2, np.float32)),
        ("a", np.array([0, np.inf])),
        ("a", np.array([-1.0, 0])),
    ],
)
def test_a_noise_that_is_none(name: str, sizes: Array) -> None:
    sample = Golden("s", "edge", {}, {"a": X}, {}, noise={name: sizes})
    with pytest.raises(FormatError, match=f"sample 's' has a noise for '{name}' that is none"):
        from_safetensors(save(to_tensors([sample])), "golden", [("s", "edge")])


@pytest.mark.parametrize(("noise", "floor"), [(0.0, 1), (3.0, 3), (1e9, MOST_NOISE)])
def test_noise_raises_a_floor_but_not_beyond_measure(noise: float, floor: float) -> None:
    own = 1e-3  # eager's distance, everywhere
    sample = Golden(
        "s",
        "edge",
        {},
        {"a": X, "i": np.arange(3)},
        {"a": X.astype("f8") + own},
        noise={name: np.array([noise * own, 2 * noise * own]) for name in "ai"},
    )
    found = sample.measure("a", X)
    assert found.floor_rms == pytest.approx(floor * own)
    assert found.floor_max == pytest.approx(min(max(1, 2 * noise), MOST_NOISE) * own)
    assert sample.measure("i", np.arange(3)).floor_max == 0


@pytest.mark.parametrize(("kind", "vanishes"), [("edge", True), ("real", False)])
def test_an_engine_may_flush_denormal_numbers_on_an_edge_case(kind: Kind, vanishes: bool) -> None:
    eager = X * np.float32(1e-39)
    sample = Golden("denormal", kind, {}, {"a": eager}, {"a": eager.astype("f8")})
    assert (sample.measure("a", np.zeros_like(eager)).ratio < 1) is vanishes
    half = (X / 2**17).astype(np.float16)  # below 6e-5, and no engine flushes them
    sample = Golden("small", "edge", {}, {"a": half}, {"a": half.astype("f8")})
    assert sample.measure("a", np.zeros_like(half)).ratio > 100


def test_a_damaged_file_is_named() -> None:
    with pytest.raises(FormatError, match="golden is not a safetensors file: it is shorter"):
        from_safetensors(b"", "golden", [])
