import copy
import json
from typing import Any

import pytest

from edgeport.runtimes.bench.stored import Stored, compare
from edgeport.runtimes.errors import FormatError, UsageError


def result(factor: float = 1.0) -> dict[str, Any]:
    """The JSON of a result, as far as it is read."""
    rounds = [[[round(1000 * factor * (1 + 0.001 * p))] * 4] * 3 for p in range(5)]
    variant = {
        "label": "ort-cpu",
        "backend": "ort-cpu",
        "spinning": True,
        "engine_only": False,
        "shapes": {"x": [1, 4]},
        "sha256": "a" * 64,
        "engine": {"engine": "onnxruntime", "version": "1", "threads": 1, "provider": "CPU"},
        "rounds_ns": rounds,
    }
    environment = {"cpu_model": "Z80", "cpus": 2, "governor": None, "python": "3.11.7"}
    return {"bench_version": 2, "mode": "closed loop", "environment": environment,
            "variants": [variant]}  # fmt: skip


def stored(told: dict[str, Any], name: str) -> Stored:
    return Stored.loads(json.dumps(told).encode(), name)


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "equivalent"), (1.5, "slower"), (0.5, "faster")]
)
def test_the_verdict_is_on_the_new_one(factor: float, verdict: str) -> None:
    found = compare(stored(result(), "old"), stored(result(factor), "new"))
    (comparison,) = found.comparisons
    assert comparison.verdict == verdict
    assert (comparison.name, comparison.baseline) == ("ort-cpu of new", "ort-cpu of old")
    assert (found.changes, found.left_out) == ((), ())


def test_what_changed_beside_is_said() -> None:
    new = result()
    new["environment"]["python"] = "3.13.0"
    new["variants"][0]["engine"]["version"] = "2"
    new["variants"].append({**copy.deepcopy(new["variants"][0]), "label": "b", "backend": "b"})
    found = compare(stored(result(), "old"), stored(new, "new"))
    assert found.changes == (
        "python was 3.11.7, now 3.13.0",
        "the engine was onnxruntime 1, now onnxruntime 2",
    )
    assert found.left_out == ("b",)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("cpu_model", "6502", "cpu_model was Z80, now 6502"),
        ("governor", "powersave", "governor was None, now powersave"),
        ("cpus", 4, "cpus was 2, now 4"),
    ],
)
def test_another_machine_is_another_question(key: str, value: object, match: str) -> None:
    new = result()
    new["environment"][key] = value
    with pytest.raises(UsageError, match=f"old and new cannot be compared: {match}"):
        compare(stored(result(), "old"), stored(new, "new"))


def test_another_mode_is_another_question() -> None:
    with pytest.raises(UsageError, match="the mode was 'closed loop', now 'cold start'"):
        compare(stored(result(), "old"), stored({**result(), "mode": "cold start"}, "new"))


def test_nothing_in_common() -> None:
    new = result()
    new["variants"][0]["shapes"] = {"x": [8, 4]}
    with pytest.raises(UsageError, match="old and new have no variant in common"):
        compare(stored(result(), "old"), stored(new, "new"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"bench_version": 1}, "x is a result of version 1, this edgeport compares version 2"),
        ({"bench_version": None}, "x is no result of a benchmark: bench_version is None, expected"),
        ({"variants": 3}, "x is no result of a benchmark: .*variants"),
        ({"mode": None}, "x is no result of a benchmark: .*a mode"),
        ({"variants": [{"label": "a", "engine": {}, "rounds_ns": [[[0]]]}]}, "durations that are"),
    ],
)
def test_damaged_results(change: dict[str, Any], match: str) -> None:
    with pytest.raises(FormatError, match=match):
        stored({**result(), **change}, "x")


def test_no_json_at_all() -> None:
    with pytest.raises(FormatError, match="x is no result of a benchmark"):
        Stored.loads(b"\xff{", "x")
