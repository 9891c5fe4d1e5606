"""The page parses, escapes, and says what was measured: no story here comes from a real export."""

import re
from typing import Any

import pytest
from page import Page, assert_no_text_becomes_a_tag

from edgeport.commands.export_page import page


def verdict(sample: str, ratio: float | None, **figures: object) -> dict[str, Any]:
    passed = ratio is not None and ratio <= 8
    return {
        "output": "scores",
        "sample": sample,
        "kind": "random",
        "status": "pass" if passed else "fail",
        "reason": "as good as eager" if passed else "shape is [2], the module gives [3]",
        "figures": {
            "rule": "oracle",
            "mismatch": None,
            "error_rms": ratio and ratio * 1e-7,
            "error_max": ratio and ratio * 2e-7,
            "floor_rms": 1e-7,
            "floor_max": 2e-7,
            "signal_rms": 1.0,
            "snr_db": 120.0,
            "cosine": 1.0,
            "ulp_median": 1,
            "ulp_max": 3,
            "decisions": 10,
            "flips": 0,
            "flips_outside": 0,
            "ratio": ratio,
            **figures,
        },
    }


def backend(outcome: str, *verdicts: dict[str, Any]) -> dict[str, Any]:
    engine = {
        "engine": "onnxruntime",
        "version": "9.8.7",
        "provider": "SomeProvider",
        "device": "cpu",
        "threads": 1,
        "cpu_nodes": [],
    }
    passed = outcome == "pass"
    return {
        "backend": "ort-cpu",
        "file": "model.onnx",
        "outcome": outcome,
        "reduced": None,
        "reason": None if passed else "1 of 2 comparisons failed",
        "remedy": None if passed else "export the model again",
        "engine": engine if verdicts else None,
        "verdicts": list(verdicts),
        "repeats": None,
    }


def attempt(route: str, outcome: str, *backends: dict[str, Any]) -> dict[str, Any]:
    why = {
        "family": "parity",
        "problem": f"{route} fails",
        "layer": "encoder.0 (Linear)",
        "operator": None,
        "source": "model.py:42  x = x.median()",
        "remedy": "write it with `torch.where`",
    }
    return {
        "format": "onnx",
        "route": route,
        "outcome": outcome,
        "compile_s": 3.0,
        "proof_s": 1.0 if backends else 0.0,
        "diagnosis": None if outcome == "proved" else why,
        "backends": list(backends),
    }


def story(*attempts: dict[str, Any], error: str | None = None) -> dict[str, Any]:
    """As ``Story`` tells it."""
    passed = error is None
    spec = {"dtype": "float32", "shape": ["batch", 4]}
    artefact = {
        "format": "onnx",
        "file": "model.onnx",
        "size_bytes": 5 * 2**20,
        "precision": "float32",
        "details": {"opset": 20, "ir_version": 10},
        "proved": True,
    }
    return {
        "bundle": "digits.edge",
        "passed": passed,
        "error": error and {"kind": error, "problem": "it\n  tried  dynamo", "remedy": "mend it"},
        "asked": {
            "formats": ["onnx"],
            "opset": None,
            "target": "ort-1.20",
            "precision": None,
            "max_ratio": 8.0,
            "max_ratios": {"scores": 4.0},
            "min_signal_db": None,
            "constant_outputs": [],
        },
        "module": "Digits",
        "signature": {
            "inputs": [{"name": "image", **spec}],
            "outputs": [{"name": "scores", **spec}],
            "ranges": {"batch": {"min": 1, "max": 64, "opt": 8}},
            "structure": {"dict": [["scores", {"output": "scores"}]]},
        },
        "notes": ["the module was in training mode"],
        "steps": [{"step": "reference", "wall_s": 1.5}],
        "searches": [],
        "scores": [],
        "attempts": list(attempts),
        "artefacts": [artefact] if passed else [],
        "parity": {"samples": 2, "backends": attempts[-1]["backends"]} if passed else None,
        "versions": {"torch": "2.13.0"},
        "wall_s": 12.0,
    }


PASSED = backend("pass", verdict("real", 0.5), verdict("zeros", 1.25))
FAILED = backend("fail", verdict("real", 0.5), verdict("ones", 4e6), verdict("zeros", None))
SUCCESS = story(attempt("dynamo", "refused"), attempt("script", "proved", PASSED))
FAILURE = story(attempt("trace", "wrong", FAILED), error="ParityError")


def test_a_narrower_precision_is_told_by_its_signal() -> None:
    right = {**verdict("real", 4e5, snr_db=33.0), "status": "pass"}
    edge = {**verdict("zeros", 9e5, snr_db=3.0), "status": "pass", "kind": "edge"}
    narrow = {**backend("pass", right, edge), "reduced": "int8"}
    told = story(attempt("dynamo", "proved", PASSED), attempt("int8 static", "proved", narrow))
    told["asked"] |= {"precision": "int8", "min_signal_db": 20}
    text = Page(page(told)).text
    assert "In int8 it answers as the PyTorch model does: the signal is at least 33 dB" in text
    assert text.count("not in the bundle: what is in it was made from this") == 1
    shown = text.partition("The proof")[2]
    assert "In int8 the signal, the answer itself, has to be 20 dB above the error" in shown
    assert "output signal to noise error worst on decisions verdict scores 33 dB" in shown
    told = story(
        attempt("dynamo", "proved", PASSED), attempt("int8 static", "wrong"), error="ParityError"
    )
    told["asked"] |= {"precision": "int8", "min_signal_db": 20}
    assert "As ONNX in int8, the model gives other answers" in Page(page(told)).text


def test_rounding_to_bfloat16_is_no_file_of_the_bundle() -> None:
    rounded = {**backend("pass", {**verdict("real", 4e5, snr_db=33.0)}), "reduced": "bfloat16"}
    told = story(attempt("dynamo", "proved", PASSED), attempt("bfloat16", "proved", rounded))
    engine = {**backend("unusable"), "backend": "tensorrt-rtx", "reduced": "bfloat16"}
    told["parity"]["backends"] = [PASSED, engine]
    told["asked"] |= {"precision": "bfloat16", "min_signal_db": 25}
    text = Page(page(told)).text
    assert "the largest error is 1.25 times the rounding error that PyTorch itself makes" in text
    assert "ONNX not in the bundle: each value is rounded to bfloat16, as an engine does" in text
    assert text.count("not in the bundle") == 1


def test_labels_and_searches_say_whose_they_are() -> None:
    told = story(attempt("dynamo", "proved", PASSED))
    assert "Beyond the samples" not in Page(page(told)).text
    score = {"metric": "accuracy", "module": 0.98, "rows": 4321, "lost": 7, "gained": 5}
    told["scores"] = [{"backend": "bfloat16, emulated", "artefact": 0.97, "passed": True, **score}]
    found = {"unit": "dB", "steps": 77, "left_out": 0}
    told["searches"] = [{"backend": "ort-cpu", "worst": 35.4, "usual": None, **found}]
    text = " ".join(Page(page(told)).text.split())
    assert "bfloat16, emulated accuracy 0.97 0.98 4,321 7, 5" in text
    assert "ort-cpu 35.4 dB over noise no noise 77" in text


def test_a_success_from_the_verdict_to_the_versions() -> None:
    parts = [
        "digits.edge is proved",
        "the largest error is 1.25 times the rounding error that PyTorch itself makes; 8 times is",
        "module Digits formats ONNX samples 2 size 5.0 MiB time 12.0 s",
        "image input float32 [batch, 4] scores output float32 [batch, 4]",
        "batch : 1 to 64, best at 8",
        "The result is nested: {'scores': scores}",
        "the module was in training mode",
        "before them: reference 1.5 s",
        "ONNX model.onnx, 5.0 MiB, float32, opset 20, ir version 10",
        "dynamo - refused 3.0 s why not dynamo fails layer encoder.0 (Linear) your code model.py",
        "script ✓ proved 4.0 s",
        "ort-cpu model.onnx, onnxruntime 9.8.7, SomeProvider, 1 thread ✓ pass",
        "1.25e-07 1e-07 120 dB zeros all 20 agree ✓ pass",
        "all 2 comparisons on ort-cpu",
        "target ort-1.20 limit error at most 8 times the noise floor, scores 4 made with torch",
    ]
    Page(page(SUCCESS)).assert_in_order(parts)


def test_what_was_asked_after_the_proof_is_in_its_table() -> None:
    """The head said 3 samples, the proof had 2: NaN and Inf are asked of a file that passed."""
    whole = backend("pass", *PASSED["verdicts"], verdict("NaN", 1.5))
    told = {**SUCCESS, "parity": {"samples": 3, "backends": [whole]}}
    parts = ["samples 3", "NaN all 30 agree", "all 3 comparisons on ort-cpu"]
    Page(page(told)).assert_in_order(parts)
    another = {**whole, "file": "narrow.onnx"}  # what was made of it further
    told = {**SUCCESS, "parity": {"samples": 3, "backends": [another]}}
    Page(page(told)).assert_in_order(["all 2 comparisons on ort-cpu"])


def test_a_size_that_follows_has_no_range_of_its_own() -> None:
    mask = {"name": "mask", "dtype": "bool", "shape": ["batch", "2*batch"]}
    signature = {**SUCCESS["signature"], "inputs": [*SUCCESS["signature"]["inputs"], mask]}
    told = page({**SUCCESS, "signature": signature})
    Page(told).assert_in_order(["[batch, 2*batch]", "batch : 1 to 64, best at 8"])
    assert "and up" not in told


def test_an_engine_that_is_not_proved_is_told_in_the_verdict() -> None:
    unusable = {**backend("unusable"), "backend": "tensorrt-rtx", "reason": "a GPU is needed"}
    built = {**attempt("build", "built", unusable), "format": "tensorrt-rtx", "diagnosis": None}
    told = story(attempt("script", "proved", PASSED), built)
    engine = {**told["artefacts"][0], "format": "tensorrt-rtx", "file": "model.rtx"}
    told["artefacts"].append({**engine, "proved": False})
    text = Page(page({**told, "parity": {"samples": 2, "backends": [PASSED, unusable]}})).text
    assert "digits.edge is proved, but for model.rtx" in text
    assert "Every file in it but model.rtx, which needs a GPU, answers as the PyTorch" in text
    assert "build ? built" in text
    assert "formats ONNX, TensorRT-RTX" in text


def test_a_failure_comes_first_and_shows_what_was_computed() -> None:
    found = Page(page(FAILURE))
    assert found.text.startswith("digits.edge: not exported")
    assert "As ONNX, the model gives other answers, so nothing was written" in found.text
    assert "What is wrong it tried dynamo What to do mend it" in found.text
    assert found.text.index("mend it") < found.text.index("What goes in")
    assert "1 of 2 comparisons failed; what to do: export the model again" in found.text
    assert "scores , zeros: shape is [2], the module gives [3]" in found.text
    assert ("details", {"open": ""}) in found.tags
    assert "The proof" not in found.text


def test_every_sample_has_a_mark_of_its_own_shape() -> None:
    found = Page(page(FAILURE))
    dots, crosses = found.of_class("in"), found.of_class("out")
    assert (len(dots), len(crosses)) == (1, 2)
    plot = next(attributes for tag, attributes in found.tags if tag == "svg")
    assert plot["aria-label"] == "3 samples with ratios from 0.5 to inf; 8 is allowed"
    assert "real: 0.5" in found.text
    limit = next(a for tag, a in found.tags if tag == "line" and a["class"] == "limit")
    middle = float(limit["x1"] or "nan")
    assert float(dots[0]["cx"] or "nan") < middle
    for cross in crosses:
        match = re.match(r"M([\d.]+) ", cross["d"] or "")
        assert match is not None
        assert middle < float(match[1]) < 280


@pytest.mark.parametrize(
    ("error", "attempts", "sentence"),
    [
        ("SourceError", [], "It ended before anything was compiled"),
        ("ExportError", [attempt("dynamo", "refused")], "No compiler takes the model to ONNX"),
        ("ContractError", [attempt("dynamo", "refused")], "No compiler takes the model to ONNX"),
        ("KeyboardInterrupt", [attempt("dynamo", "refused")], "It did not come to its end"),
        ("StorageError", [attempt("dynamo", "proved", PASSED)], "It did not come to its end"),
    ],
)
def test_a_failure_in_one_sentence(
    error: str, attempts: list[dict[str, Any]], sentence: str
) -> None:
    assert sentence in Page(page(story(*attempts, error=error))).text


def test_an_end_before_there_is_a_source() -> None:
    told = {**story(error="SourceError"), "module": None, "signature": None, "notes": []}
    text = Page(page(told)).text
    assert "What goes in" not in text
    assert "Good to know" not in text


def test_figures_that_have_no_ratio() -> None:
    exact = {"rule": "exact", "error_max": 0.0, "decisions": 0}
    wrong = {"rule": "exact", "error_max": 3.0, "decisions": 0}
    shape = {"mismatch": "dtype is float16, the module gives float32", "snr_db": None}
    for figures, ratio, told in (
        (exact, 0.0, "equal exact real"),
        (wrong, None, "3 differ exact real"),
        (shape, None, "differs real"),
    ):
        found = backend("pass", verdict("real", ratio, **figures))
        assert told in Page(page(story(attempt("dynamo", "proved", found)))).text


def test_a_backend_that_ran_nothing() -> None:
    found = Page(page(story(attempt("dynamo", "wrong", backend("fail")), error="ParityError")))
    assert "ort-cpu model.onnx ✗ fail 1 of 2 comparisons failed" in found.text


def test_an_edge_case_may_pass_above_the_bar() -> None:
    lenient = {**verdict("zeros", 13.0), "status": "pass"}
    found = Page(page(story(attempt("dynamo", "proved", backend("pass", lenient)))))
    assert "13 times" in found.text
    assert "8 times is allowed, and more on edge cases" in found.text
    assert not found.of_class("out")


@pytest.mark.parametrize("told", [SUCCESS, FAILURE])
def test_no_text_of_the_users_becomes_a_tag(told: dict[str, Any]) -> None:
    ours = ("kind", "outcome", "status", "rule", "format", "formats")
    assert_no_text_becomes_a_tag(page, told, ours=ours)


@pytest.mark.parametrize("told", [SUCCESS, FAILURE])
def test_the_page_needs_nothing_but_itself(told: dict[str, Any]) -> None:
    text = page(told)
    assert not re.search(r"\b(src|href)=|url\(|@import|http:|https:", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


@pytest.mark.parametrize("told", [SUCCESS, FAILURE])
def test_the_page_can_be_read_aloud(told: dict[str, Any]) -> None:
    found = Page(page(told))
    tags = [tag for tag, _ in found.tags]
    assert tags.count("h1") == 1
    assert tags.count("caption") == tags.count("table")
    assert all(a.get("scope") in ("row", "col") for tag, a in found.tags if tag == "th")
    assert all(a.get("aria-label") for _, a in found.tags if a.get("role") == "img")
    assert ("html", {"lang": "en"}) in found.tags
