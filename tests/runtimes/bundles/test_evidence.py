import json
from pathlib import Path
from typing import Any

import handmade
import pytest

from edgeport.runtimes import Bundle, FormatError, IntegrityError, verify
from edgeport.runtimes.bundles.evidence import latencies_ns, proofs

HUGE_RATIO = {"figures": {"ratio": 10**400}}


def test_a_real_report(packed: Path) -> None:
    report = verify(Bundle.read(packed), threads=1).to_json()
    bundle = handmade.put_report(packed, "parity", json.dumps(report).encode())
    bundle.check_files()
    ort, null = proofs(bundle)
    assert (ort.backend, ort.outcome, ort.engine.split()[0]) == ("ort-cpu", "pass", "onnxruntime")
    assert ort.worst_ratio is not None
    assert 0 < ort.worst_ratio < 8
    assert null.outcome == "fail"
    assert ort.worst == f"worst ratio {ort.worst_ratio:.3g}"


def test_a_report_of_a_narrower_precision(packed: Path) -> None:
    report = verify(Bundle.read(packed), threads=1).to_json()
    backend = report["backends"][0]
    backend["reduced"] = "int8"
    for verdict, signal in zip(backend["verdicts"], (10.0, 33.0, *[50.0] * 99), strict=False):
        verdict["figures"]["snr_db"] = signal
    backend["verdicts"][0]["kind"] = "edge"  # which owes none
    proof, _ = proofs(handmade.put_report(packed, "parity", json.dumps(report).encode()))
    assert (proof.reduced, proof.snr_db, proof.worst) == ("int8", 33.0, "int8, 33 dB over noise")


def test_a_real_benchmark(packed: Path) -> None:
    from edgeport.runtimes.bench import Sweep, benchmark

    result = benchmark(
        [Bundle.read(packed)], Sweep(("ort-cpu",), threads=(1,)), budget_s=0.2, processes=2
    ).to_json()
    found = latencies_ns(handmade.put_report(packed, "bench", json.dumps(result).encode()))
    assert found.keys() == {"ort-cpu"}
    assert 1e3 < found["ort-cpu"] < 1e9


def test_none_is_none(packed: Path) -> None:
    assert proofs(Bundle.peek(packed)) == ()
    assert latencies_ns(Bundle.peek(packed)) == {}


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ([], r"a report is \[\], expected an object"),
        ({}, "backends is None, expected a list"),
        ({"backends": [1]}, "an entry is 1, expected an object"),
        ({"backends": [{"verdicts": None}]}, "verdicts is None, expected a list"),
        ({"backends": [{"verdicts": [{"figures": 1}]}]}, "figures is 1, expected an object"),
        ({"backends": [{"verdicts": [], "backend": 1}]}, "a backend is 1, expected a string"),
        ({"backends": [{"verdicts": [], "backend": "x", "engine": 3}]}, "an engine is 3, expected"),
        (
            {"backends": [{"verdicts": [HUGE_RATIO], "backend": "x", "outcome": "pass"}]},
            r"a ratio is 10+\.\.\.0+, expected a number",
        ),
    ],
)
def test_what_is_no_report(packed: Path, report: Any, message: str) -> None:
    bundle = handmade.put_report(packed, "parity", json.dumps(report).encode())
    with pytest.raises(FormatError, match=rf"a report of .*mlp\.edge cannot be read: {message}"):
        proofs(bundle)


def test_a_latency_beyond_all_numbers(packed: Path) -> None:
    percentile = {"percent": 50, "latency_ns": {"value": 10**400}}
    report = {"variants": [{"backend": "x", "percentiles": [percentile]}]}
    bundle = handmade.put_report(packed, "bench", json.dumps(report).encode())
    with pytest.raises(FormatError, match=r"cannot be read: a latency is 10+\.\.\.0+, expected a"):
        latencies_ns(bundle)


def test_damage(packed: Path) -> None:
    bundle = handmade.put_report(packed, "parity", b"{")
    with pytest.raises(
        FormatError, match=r"a report of .* cannot be read: Expecting property name"
    ):
        proofs(bundle)
    (packed / "reports" / "parity.json").write_bytes(b"[")
    with pytest.raises(IntegrityError, match=r"parity\.json is not the file that was packed"):
        proofs(bundle)
    with pytest.raises(IntegrityError, match=r"parity\.json is not the file that was packed"):
        bundle.check_files()
