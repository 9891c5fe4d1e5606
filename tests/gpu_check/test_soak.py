"""The soak of sessions that misbehave, and of one that doesn't."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgeport.gpu_check.child import Figures
from edgeport.gpu_check.soak import MOST_ERRORS, soak, soak_session
from edgeport.gpu_check.tasks import Place
from edgeport.runtimes import Bundle, EngineError, Session
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.session import Closes


class Spoiled(Closes):
    """A session whose answers are changed from some call on."""

    def __init__(self, inner: Session, *, after: int, by: float = 0.0, fails: bool = False) -> None:
        self.signature, self.engine = inner.signature, inner.engine
        self._inner, self._after, self._by, self._fails = inner, after, by, fails
        self._calls = 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self._calls += 1
        answer = self._inner.run(inputs)
        if self._calls <= self._after:
            return answer
        if self._fails:
            raise EngineError("the kernel crashed", remedy="none")
        return {**answer, "logits": answer["logits"] * np.float32(1 + self._by)}

    def close(self) -> None: ...


def soaked(packed: Path, seconds: float = 0.2, **how: float) -> tuple[Figures, list[Figures]]:
    bundle = Bundle.read(packed)
    looks: list[Figures] = []
    with bundle.open("ort-cpu") as session:
        spoiled = Spoiled(session, **how)  # type: ignore[arg-type]
        samples: tuple[Golden, ...] = bundle.golden()
        found = soak_session(spoiled, samples, Thresholds(), None, seconds, looks.append)
    return found, looks


def test_a_session_that_is_well_has_no_problem(packed: Path) -> None:
    looks: list[Figures] = []
    found = soak(Place(packed, "ort-cpu", "cpu"), 1.2, looks.append)
    assert (found["problem"], found["remedy"], found["changed"]) == (None, None, 0)
    assert found["calls"] > 100
    assert found["card"] is None
    assert [look["gpu"] for look in looks] == [None] * len(looks)
    assert [look["at_s"] for look in looks] == sorted(look["at_s"] for look in looks)
    assert looks[-1]["at_s"] >= 1.2
    assert found["process_growth"]["last_bytes"] > 2**20
    assert "gpu_growth" not in found


def test_an_answer_that_drifts_too_far_is_a_problem(packed: Path) -> None:
    found, _ = soaked(packed, after=10, by=1e-3)
    assert found["changed"] > 0
    assert "answers changed, and the farthest of them fail: logits of 'sample " in found["problem"]
    assert "nvidia-smi -q -d ECC" in found["remedy"]


def test_an_answer_that_differs_in_its_last_bits_is_told_and_none(packed: Path) -> None:
    found, looks = soaked(packed, after=10, by=1.2e-7)
    assert found["problem"] is None
    assert found["changed"] == looks[-1]["changed"] > 0


def test_a_nan_is_a_problem(packed: Path) -> None:
    found, _ = soaked(packed, after=10, by=np.nan)
    assert "logits of" in found["problem"]


def test_failing_calls_end_it(packed: Path) -> None:
    found, looks = soaked(packed, seconds=60, after=10, fails=True)
    assert looks[-1]["errors"] == MOST_ERRORS
    assert found["problem"] == f"10 of {found['calls']} calls failed: the kernel crashed"


def test_a_first_call_that_fails_is_an_error(packed: Path) -> None:
    with pytest.raises(EngineError, match="the kernel crashed"):
        soaked(packed, after=0, fails=True)
