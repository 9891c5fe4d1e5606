"""The fixture, in a pytest run of its own."""

from xml.etree import ElementTree

import pytest

TEST = """
import warnings
import numpy as np
import pytest
import torch

MODULE = torch.nn.Linear(8, 3).eval()
SAMPLES = [{"input": np.random.default_rng(n).standard_normal((n, 8)).astype("float32")}
           for n in (1, 2, 7)]

@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(MODULE).save(str(path))
    return path

def test_right(edgeport_parity, path):
    assert len(edgeport_parity(MODULE, path, SAMPLES)) == 3

def test_wrong(edgeport_parity, path):
    with torch.no_grad():
        MODULE.weight[1, 2] += 1e-3
    edgeport_parity(MODULE, path, SAMPLES)
"""


def test_a_users_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST)
    result = pytester.runpytest_inprocess("-p", "edgeport.testing.plugin", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*ParityError: m.pt does not compute what Linear computes",
            "E * output * output",
            "E * ratio * times the noise floor, 8 allowed",
            "E * worst * at [[]*, 1]: the module gives *, the artefact *",
            "E * fix: make it again, from these weights*",
        ]
    )
    result.stdout.no_fnmatch_line("*Fail unless an artefact computes*")  # its own text, 60 lines
    cases = ElementTree.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    right = next(case for case in cases if case.get("name") == "test_right")
    (ratio,) = [each.get("value") for each in right.iter("property")]
    assert 0 <= float(ratio or "nan") <= 8
