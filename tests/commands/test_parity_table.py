"""The table that ``verify`` and ``export`` print, of reports that no engine made."""

from typing import TypeAlias

from edgeport.commands.parity_table import render
from edgeport.runtimes import Report
from edgeport.runtimes.bundles.manifest import Kind
from edgeport.runtimes.parity.figures import Figures
from edgeport.runtimes.parity.report import BackendReport, Outcome
from edgeport.runtimes.parity.thresholds import Precision, Thresholds
from edgeport.runtimes.parity.verdict import Status, Verdict

LARGEST = Figures("oracle", error_rms=1.0, floor_rms=2.0, error_max=9.0, floor_max=3.0)
FLIPPED = Figures("oracle", error_rms=1.0, floor_rms=1.0, signal_rms=100, decisions=9, flips=4)

Said: TypeAlias = tuple[str, Figures, Status, Kind]
"""Output, figures, status, and the kind of the sample."""


def rows(
    *verdicts: Said,
    outcome: Outcome = "pass",
    reduced: Precision | None = None,
) -> list[str]:
    found = tuple(
        Verdict(output, "s", status, "why", figures, kind)
        for output, figures, status, kind in verdicts
    )
    backend = BackendReport("ort-cpu", "m.onnx", outcome, "why", "mend", reduced, verdicts=found)
    lines = render(Report("m", 1, Thresholds(), (backend,))).splitlines()
    return [" ".join(line.split()) for line in lines[2 : lines.index("")]]


def test_an_output_that_passes_beside_one_that_fails() -> None:
    assert rows(("a", LARGEST, "fail", "real"), ("b", FLIPPED, "pass", "real"), outcome="fail") == [
        "ort-cpu a 9.0e+00 3.0e+00 3 s ✗ FAIL",  # the pair that the ratio is of
        "ort-cpu b 1.0e+00 1.0e+00 1 s 4 of 9 flip, within noise ✓ pass",
    ]
    # what fails as a whole, such as two answers to one input
    assert rows(("a", LARGEST, "pass", "real"), outcome="fail")[0].endswith("✗ FAIL")


def test_flips_of_edge_cases_in_a_narrower_precision_owe_nothing() -> None:
    usual: Said = ("a", FLIPPED, "pass", "random")
    edge: Said = ("a", FLIPPED, "pass", "edge")
    assert rows(usual, edge, reduced="int8") == [
        "ort-cpu a 1.0e+00 40.0 dB s 4 of 9 flip, within noise ✓ pass"
    ]
    assert "8 of 18 flip, within noise" in rows(usual, edge)[0]
    assert rows(("a", FLIPPED, "fail", "random"), outcome="fail")[0].endswith("4 of 9 flip ✗ FAIL")
