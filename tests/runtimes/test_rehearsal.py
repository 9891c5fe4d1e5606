import os
from dataclasses import replace
from pathlib import Path

import handmade
import hostile
import pytest

from edgeport.runtimes import Bundle, EngineError, Options
from edgeport.runtimes.rehearsal import rehearse
from edgeport.runtimes.safety.isolation import Limits

OPTIONS = Options(threads=1)


def test_a_good_bundle_passes(packed: Path) -> None:
    bundle = Bundle.read(packed)
    inputs = [sample.inputs for sample in bundle.golden()]
    rehearse(bundle, "ort-cpu", inputs, OPTIONS, Limits(20))


def test_one_that_never_ends(packed: Path) -> None:
    handmade.replace_artefact(packed, "onnx", hostile.endless())
    bundle = Bundle.read(packed)
    inputs = [sample.inputs for sample in bundle.golden()]
    with pytest.raises(EngineError, match=r"took longer than 1 s\n  fix: .*--time-limit SECONDS"):
        rehearse(bundle, "ort-cpu", inputs, OPTIONS, Limits(1))


def test_none_is_needed_where_a_key_vouches(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> int:
        raise AssertionError

    monkeypatch.setattr(os, "fork", forbidden)
    bundle = replace(Bundle.read(packed), vouched=True)
    rehearse(bundle, "ort-cpu", [], OPTIONS, Limits(1))
