"""The page of a report, which real figures are made for: numpy's answers with known faults."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from page import Page, assert_no_text_becomes_a_tag

from edgeport.commands.parity_table import render
from edgeport.commands.verify_page import page
from edgeport.runtimes.bundles.manifest import Artefact, Kind, StoredFile
from edgeport.runtimes.formats import records
from edgeport.runtimes.parity.comparison import measure
from edgeport.runtimes.parity.repeats import Repeats
from edgeport.runtimes.parity.report import BackendReport, OutputFacts, Report
from edgeport.runtimes.parity.thresholds import Precision, Thresholds
from edgeport.runtimes.parity.verdict import judge
from edgeport.runtimes.session import EngineInfo

KINDS: tuple[Kind, ...] = ("edge", "real", "search", "random")
ENGINE = EngineInfo("ort-cpu", "onnxruntime", "9.8.7", "SomeProvider", "cpu", "float32", 1)


def backend(name: str, faults: Sequence[float], reduced: Precision | None = None) -> BackendReport:
    """Answers that are off by these relative faults, one for each kind of sample."""
    verdicts = []
    for index, (kind, fault) in enumerate(zip(KINDS, faults, strict=True)):
        oracle = np.random.default_rng(index).normal(size=(4, 3))
        eager = oracle.astype(np.float32)
        actual = np.nextafter(eager, np.float32(9)) * np.float32(1 + fault)
        labels = oracle.argmax(1)
        wrong = labels + (fault > 0.5)
        for output, figures in (
            ("scores", measure(actual, eager, oracle)),
            ("label", measure(wrong, labels, None)),
        ):
            sample = f"{kind} {index}"
            verdicts.append(judge(output, sample, figures, Thresholds(), kind=kind))
    return BackendReport(name, "f", "pass", None, None, reduced, ENGINE, tuple(verdicts))


def told(*backends: BackendReport, thresholds: Thresholds | None = None) -> dict[str, Any]:
    thresholds = thresholds or Thresholds()
    facts = (OutputFacts("scores", False, 1e6), OutputFacts("label", False, math.inf))
    report = Report("digits", 4, thresholds, backends, facts).judged(thresholds)
    value: dict[str, Any] = json.loads(json.dumps(report.to_json(), allow_nan=False))
    return value


GOOD = backend("ort-cpu", (0, 0, 0, 0))
BAD = backend("libtorch", (0, 1e-3, 0, 1))
ODD = backend("torch", (0, 0, math.nan, 0))
ABSENT = BackendReport("tensorrt", "f", "unusable", "not installed", "install it")
PASSED, FAILED = told(GOOD, ABSENT), told(GOOD, BAD, ODD)
WALK = [
    {"name": f"layer {i}", "depth": i, "floor": 1e-7, "error": 1e-7 if i < 3 else 1e-3,
     "ratio": 1.0 if i < 3 else 1e4}
    for i in range(6)
]  # fmt: skip  # a value and its line


def test_a_pass_from_the_verdict_to_the_limit() -> None:
    parts = [
        "digits: computes what PyTorch computes",
        "digits computes what PyTorch computes The largest error is",
        "times the rounding error that PyTorch itself makes; 8 times is allowed.",
        "backends that pass 1 of 2 samples 4 outputs 2 comparisons 8 failed 0 decisions all 16",
        "ort-cpu ✓ pass",
        "f, onnxruntime 9.8.7, SomeProvider, 1 thread",
        "tensorrt - not usable here not installed",
        "The map",
        "The largest error output scores backend ort-cpu",
        "How large the errors are",
        "scores on ort-cpu",
        "all 8 comparisons on ort-cpu",
        "limit error at most 8 times the noise floor",
    ]
    shown = Page(page(PASSED))
    shown.assert_in_order(parts)
    assert "What is wrong" not in shown.text


def test_a_failure_says_what_where_and_how_much() -> None:
    text = Page(page(FAILED)).text
    assert text.startswith("digits: is wrong on libtorch, torch")
    assert "4 of 24 comparisons failed. The worst is output label on libtorch, sample ran" in text
    assert "What is wrong libtorch 3 of 8 comparisons failed" in text
    assert "scores , random 3: error is" in text
    assert "(2 samples failed)" in text
    assert "label , random 3: 4 elements differ" in text
    assert "What to do: don't use this artefact with this backend" in text
    assert text.index("What to do") < text.index("The backends") < text.index("The map")
    assert "The worst sample output label backend libtorch sample random 3 verdict 4 el" in text
    assert "The first elements that differ place backend PyTorch [0]" in text


def test_the_places_of_a_nan_are_told() -> None:
    text = Page(page(told(GOOD, ODD))).text
    assert (
        "1 of 16 comparisons failed. The worst is output scores on torch, sample search 2" in text
    )
    assert "What is no number value backend PyTorch places that differ the first of them" in text
    assert "NaN 12 0 12 [0, 0], [0, 1]" in text


def test_the_map_has_a_cell_for_every_comparison() -> None:
    found = Page(page(FAILED))
    cells = [a for tag, a in found.tags if tag == "rect" and a.get("x") and a.get("width") != "0"]
    titles = re.findall(r"<title>(.*?)</title>", page(FAILED))
    for backend_ in ("ort-cpu", "libtorch", "torch"):
        assert sum(t.startswith(f"{backend_}, ") for t in titles) == 8
    assert len(found.of_class("wrong", "rect")) == 4 + 1  # and one in the key
    assert len(found.of_class("cross", "path")) == 4 + 1
    assert len(cells) >= 24
    (heat,) = (a for tag, a in found.tags if tag == "svg" and a.get("class") == "heat")
    assert heat["aria-label"] == "24 comparisons, 4 of them failed"
    assert re.search(
        r">real 1<.*>random 3<.*>edge 0<.*>search 2<", page(FAILED)
    )  # the other two last


@pytest.mark.parametrize(
    ("ratio", "level"),
    [(0.0, "equal"), (0.4, "l0"), (0.9, "l1"), (2, "l2"), (7.9, "l4"), (9, "over")],
)
def test_the_colour_is_the_share_of_the_limit(ratio: float, level: str) -> None:
    from edgeport.commands.heat_map import level_of

    (verdict, *_) = GOOD.verdicts
    figures = replace(verdict.figures, error_rms=ratio, floor_rms=1.0, error_max=0.0)
    thresholds = Thresholds()
    plain = records.to_json(replace(verdict, figures=figures))
    assert level_of(plain, GOOD.to_json(), thresholds.to_json()) == level
    own = Thresholds(outputs={"scores": ratio or 1}).to_json()
    assert level_of(plain, GOOD.to_json(), own) == ("l4" if ratio else "equal")


def test_a_limit_of_its_own() -> None:
    text = Page(page(told(GOOD, thresholds=Thresholds(outputs={"scores": 6})))).text
    assert "Nearest to its limit is output scores: its error is" in text
    assert "6 times is allowed" in text
    assert "by output scores 6" in text


def test_a_reduced_precision_says_how_far_the_signal_is_above_the_noise() -> None:
    text = Page(page(told(backend("ort-cpu", (1e-4,) * 4, "bfloat16")))).text
    assert re.search(r"In bfloat16, the signal is at least 8\d dB above the noise", text)
    assert "signal over noise least engine ort-cpu ✓ pass 25 dB expected in bfloat16 8" in text
    assert "its colour is the noise, 8 what is allowed" in text
    assert "noise floor; signal over noise at least 25 dB in bfloat16" in text
    edge = Page(page(told(backend("ort-cpu", (1e-2, 1e-4, 1e-4, 1e-4), "bfloat16")))).text
    assert re.search(r"the signal is at least 8\d dB above the noise", edge)  # edges owe none


def test_what_the_ranges_of_int8_were_measured_on() -> None:
    details: dict[str, int | str] = {"opset": 20, "quantization": "static", "ranges": "of 4 rows"}
    stored = StoredFile("model.onnx", "0" * 64, 1)
    int8 = Artefact("onnx", "int8", stored, details=details)
    wide = Artefact("onnx", "float32", stored, details={"opset": 20})
    known = told(backend("ort-cpu", (1e-4,) * 4, "int8"))
    text = Page(page(known, artefacts=[int8])).text
    assert "model.onnx in int8: quantization static, ranges of 4 rows." in text
    assert "model.onnx in" not in Page(page(known, artefacts=[wide])).text


def test_what_is_neither_right_nor_wrong() -> None:
    nothing = Page(page(told(ABSENT))).text
    assert nothing.startswith("digits: was not verified: no backend is usable here")
    assert "Nothing was run." in nothing
    assert "The map" not in nothing
    value = told(GOOD)
    value["passed"] = False
    value["backends"][0] |= {"outcome": "uninformative", "reason": "zeros\nx", "remedy": "vary it"}
    dull = Page(page(value)).text
    assert "digits is not proved: the samples prove nothing ort-cpu: zeros. " in dull
    assert "What to do: vary it" in dull


def test_an_artefact_that_did_not_open() -> None:
    broken = BackendReport("ort-cpu", "f", "fail", "cannot open f: junk", "export it again")
    text = Page(page(told(broken))).text
    assert "digits is wrong on ort-cpu ort-cpu: cannot open f: junk." in text


def test_the_walk_flags_the_first_value_that_diverges() -> None:
    found = Page(page(FAILED, WALK))
    assert "Where it goes wrong" in found.text
    (walk,) = (a for tag, a in found.tags if tag == "svg" and a.get("class") == "walk")
    assert walk["aria-label"] == "6 values; the first to diverge is layer 3"
    assert "layer 4: 1e+04 times its floor" in found.text
    calm = Page(page(PASSED, WALK[:3])).tags
    assert any(a.get("aria-label") == "3 values; none diverges" for _, a in calm)
    assert "Where it goes wrong" not in Page(page(FAILED)).text


def test_a_walk_of_one_exact_value_and_of_an_infinite_one() -> None:
    exact: list[dict[str, Any]] = [
        {"name": "x", "depth": 0, "floor": 0.0, "error": 0.0, "ratio": 0.0}
    ]
    assert 'class="walk"' not in page(FAILED, exact)
    endless: list[dict[str, Any]] = [
        *WALK,
        {"name": "y", "depth": 9, "floor": 1e-7, "error": None, "ratio": None},
    ]
    assert "y: ∞ times its floor" in page(FAILED, endless)


def test_many_samples_have_no_names_and_many_outputs_the_hottest_histograms() -> None:
    verdicts = [
        replace(v, output=f"scores {o}", sample=f"sample {s}")
        for v in GOOD.verdicts[2:3]
        for o in range(15)
        for s in range(41)
    ]
    text = page(told(replace(GOOD, verdicts=tuple(verdicts))))
    assert "rotate(-55)" not in text
    assert text.count('class="histogram"') == 12
    assert "The 12 hottest; 3 more are as the map shows." in text
    assert "rotate(-55)" in page(PASSED)


@pytest.mark.parametrize("value", [PASSED, FAILED])
def test_no_text_of_the_users_becomes_a_tag(value: dict[str, Any]) -> None:
    ours = ("outcome", "status", "rule", "kind", "dtype")
    assert_no_text_becomes_a_tag(page, value, WALK, ours=ours)


@pytest.mark.parametrize("value", [PASSED, FAILED])
def test_the_page_needs_nothing_but_itself_and_can_be_read_aloud(value: dict[str, Any]) -> None:
    text = page(value, WALK)
    assert not re.search(r"\b(src|href)=|url\(|@import|http:|https:", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    found = Page(text)
    tags = [tag for tag, _ in found.tags]
    assert tags.count("h1") == 1
    assert tags.count("caption") == tags.count("table")
    assert all(a.get("aria-label") for _, a in found.tags if a.get("role") == "img")


def test_the_table_of_a_gpu_and_of_answers_that_differ() -> None:
    engine = replace(ENGINE, device="cuda:0", precision="tf32", cpu_nodes=("Loop", "If"))
    on_gpu = replace(BAD, engine=engine, repeats=Repeats("real 1", 20, 1, None, 0.0))
    report = Report("digits", 4, Thresholds(), (on_gpu,), ()).judged(Thresholds())
    text = render(report)
    assert "libtorch ran on cuda:0 in tf32\n  on the CPU, as allowed: Loop, If\n" in text
    assert f"  {on_gpu.repeats}\n" in text
    assert re.search(r"libtorch +label +4 differ +exact", text)
    verdict = judge("y", "s0", measure(np.ones(2), np.ones(3), None), Thresholds(), kind="real")
    odd = BackendReport("torch", "f", "fail", None, None, None, ENGINE, (verdict,))
    text = render(Report("m", 1, Thresholds(), (odd,), ()).judged(Thresholds()))
    assert re.search(r"torch +y +differs +s0", text)
