"""Whose code a source file is."""

import json
from pathlib import Path

import onnx
import pytest
import torch

from edgeport.deploy import origins
from edgeport.deploy.origins import Origin, origin


@pytest.mark.parametrize(
    ("file", "whose"),
    [
        (__file__, Origin.USER),
        ("/home/me/net.py", Origin.USER),  # of another machine
        ("/v/site-packages/lib/net.py", Origin.LIBRARY),
        (torch.__file__, Origin.COMPILER),
        (onnx.__file__, Origin.COMPILER),
        (json.__file__, Origin.COMPILER),
        (origins.__file__, Origin.COMPILER),
        ("<eval_with_key>.5", Origin.COMPILER),
        ("code/__torch__/net.py", Origin.COMPILER),
    ],
)
def test_whose_it_is(file: str, whose: Origin) -> None:
    assert origin(file) is whose


def test_a_script_that_was_started_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_script_of_mine.py").touch()
    assert origin("a_script_of_mine.py") is Origin.USER
