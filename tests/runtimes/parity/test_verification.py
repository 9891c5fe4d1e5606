import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import handmade
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load, save

from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    EngineError,
    IntegrityError,
    MissingFileError,
    OutOfMemoryError,
    Report,
    Signature,
    UsageError,
    verify,
)
from edgeport.runtimes.bundles.golden import Golden, to_tensors
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.null import NullSession
from edgeport.runtimes.parity.report import BackendReport
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.parity.verification import check_session, verify_ways
from edgeport.runtimes.safety.isolation import Limits
from edgeport.runtimes.session import Options, Session, open_artefact


def with_samples(path: Path, samples: Sequence[Golden], **changes: object) -> Bundle:
    labels = tuple((sample.name, sample.kind) for sample in samples)
    data = save(to_tensors(samples)) if samples else save({})
    handmade.replace_artefact(path, "golden", data)
    manifest = replace(Bundle.read(path).manifest, samples=labels, **changes)  # type: ignore[arg-type]  # as named
    (path / "manifest.json").write_text(manifest.dumps())
    return Bundle.read(path)


def only(bundle: Bundle, backend: str = "ort-cpu") -> BackendReport:
    (report,) = verify(bundle, [backend], threads=1).backends
    return report


def test_a_right_engine_passes_and_zeros_fail(packed: Path) -> None:
    report = verify(Bundle.read(packed), threads=1)
    ort, null = report.backends
    assert (ort.backend, ort.outcome, ort.reason, ort.remedy) == ("ort-cpu", "pass", None, None)
    assert len(ort.verdicts) == 8
    assert all(verdict.figures.ratio < 3 for verdict in ort.verdicts)
    assert ort.engine is not None
    assert ort.engine.threads == 1
    assert (null.outcome, len(null.failures)) == ("fail", 6)  # two labels are 0
    assert null.reason == "6 of 8 comparisons failed"
    assert null.remedy == "don't use this artefact with this backend; export the model again"
    assert (report.passed, report.nothing_ran, report.samples) == (False, False, 4)
    assert verify(packed, ["ort-cpu"]).passed
    assert verify(str(packed), ["ort-cpu"]).passed


def test_two_ways_of_opening_read_the_samples_once(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.read(packed)
    ways = [Options(threads=1), Options(threads=1, optimize=False)]
    alone = [verify(bundle, ["ort-cpu"], threads=1, optimize=each.optimize) for each in ways]
    read: list[Bundle] = []
    golden = Bundle.golden

    def counted(self: Bundle) -> tuple[Golden, ...]:
        read.append(self)
        return golden(self)

    monkeypatch.setattr(Bundle, "golden", counted)
    assert verify_ways(bundle, ways, ["ort-cpu"]) == alone
    assert read == [bundle]


def one_percent_off(path: Path) -> bytes:
    """An ONNX file with one weight that is larger."""
    model = onnx.load_from_string(path.read_bytes())
    (weight,) = [w for w in model.graph.initializer if w.name == "w2"]
    values = numpy_helper.to_array(weight).copy()
    values[np.unravel_index(np.abs(values).argmax(), values.shape)] *= 1.01
    weight.CopyFrom(numpy_helper.from_array(values, "w2"))
    data: bytes = model.SerializeToString()
    return data


def test_one_percent_of_one_weight_fails(packed: Path) -> None:
    handmade.replace_artefact(packed, "onnx", one_percent_off(packed / "model.onnx"))
    report = only(Bundle.read(packed))
    assert report.outcome == "fail"
    assert {verdict.output for verdict in report.failures} == {"logits"}


def test_another_release_of_the_engine_is_told(packed: Path) -> None:
    here = only(Bundle.read(packed)).engine
    assert here is not None
    report = verify(packed, ["ort-cpu"], threads=1).to_json()
    report["backends"][0]["engine"]["version"] = "1.0.1"
    handmade.put_report(packed, "parity", json.dumps(report).encode())
    told = (
        "it passed with onnxruntime 1.0.1 where it was made: install that here, or export it again "
        f"where onnxruntime {here.version} is installed; else "
    )
    assert only(Bundle.read(packed)).remedy is None
    for wrong, rest in (
        (one_percent_off(packed / "model.onnx"), "don't use this artefact with this backend; "),
        (b"junk", "check that it is an ONNX file "),  # it is not even opened
    ):
        handmade.replace_artefact(packed, "onnx", wrong)
        remedy = only(Bundle.read(packed)).remedy
        assert remedy is not None
        assert remedy.startswith(told + rest)


def test_what_a_stranger_calls_a_release_ends_no_line(packed: Path) -> None:
    report = verify(packed, ["ort-cpu"], threads=1).to_json()
    report["backends"][0]["engine"]["version"] = "1.0.1\n  fix: curl"
    handmade.put_report(packed, "parity", json.dumps(report).encode())
    handmade.replace_artefact(packed, "onnx", b"junk")
    remedy = only(Bundle.read(packed)).remedy
    assert remedy is not None
    assert remedy.startswith("check that it is an ONNX file ")


def test_outputs_are_compared_by_name_not_by_place(packed: Path) -> None:
    data = (packed / "golden.safetensors").read_bytes()
    names = [key for key in load(data) if key.startswith("0/eager")]
    found = Bundle.read(packed)
    assert {key.rpartition("/")[2] for key in names} == {"logits", "label"}
    assert [output.name for output in found.manifest.signature.outputs] == ["logits", "label"]
    swapped = [
        replace(sample, eager={name: sample.eager[name] for name in ("label", "logits")})
        for sample in found.golden()
    ]
    with found.open("ort-cpu") as session:
        verdicts = check_session(session, swapped, Thresholds())
    assert {verdict.status for verdict in verdicts} == {"pass"}


def test_a_file_that_changed_is_not_opened(packed: Path) -> None:
    bundle = Bundle.read(packed)
    (packed / "model.null").write_bytes(b"changed")  # not the one that is asked for
    with pytest.raises(IntegrityError, match=r"model\.null is not the file that was packed"):
        verify(bundle, ["ort-cpu"])
    (packed / "model.null").unlink()
    with pytest.raises(MissingFileError, match=r"model\.null is missing"):
        verify(bundle, ["ort-cpu"])


def test_an_artefact_that_its_engine_refuses_fails_alone(packed: Path) -> None:
    handmade.replace_artefact(packed, "onnx", b"junk")
    report = verify(Bundle.read(packed), threads=1)
    ort, null = report.backends
    assert (ort.outcome, ort.engine, ort.verdicts) == ("fail", None, ())
    assert ort.reason is not None
    assert ort.reason.startswith("ONNX Runtime cannot open")
    assert ort.remedy is not None
    assert null.verdicts


def test_a_bundle_without_samples_proves_nothing(packed: Path) -> None:
    with pytest.raises(UsageError, match=r"mlp\.edge holds no golden samples, so it cannot prove"):
        verify(with_samples(packed, []))


def test_a_backend_that_does_not_fit(packed: Path) -> None:
    with pytest.raises(UsageError, match="no backend is named 'tpu'"):
        verify(Bundle.read(packed), ["tpu"])
    with pytest.raises(UsageError, match="holds no pt2 artefact for backend 'torch'"):
        verify(Bundle.read(packed), ["ort-cpu", "torch"])


@pytest.mark.parametrize("limits", [None, Limits(time_s=60)], ids=["here", "in a child"])
def test_an_engine_for_another_machine_is_neither_right_nor_wrong(
    packed: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits | None
) -> None:
    problem = "it was built for compute capability 8.9, and this GPU has 8.6"

    def open_it(path: Path, options: Options) -> Session:
        raise BackendMissingError(problem, remedy="build it on this machine")

    monkeypatch.setattr("edgeport.runtimes.null.open", open_it)
    report = verify(Bundle.read(packed), threads=1, limits=limits)
    null = next(each for each in report.backends if each.backend == "null")
    assert (null.outcome, null.reason) == ("unusable", problem)
    assert null.remedy == "build it on this machine"
    assert report.passed
    with pytest.raises(BackendMissingError, match=f"null cannot be used here: {problem}"):
        verify(Bundle.read(packed), ["null"], limits=limits)


@pytest.mark.parametrize(
    ("error", "limits", "reason"),
    [
        (OutOfMemoryError("no room", remedy="make room"), None, "no room"),
        (OutOfMemoryError("no room", remedy="make room"), Limits(time_s=60), "no room"),
        (MemoryError(), Limits(time_s=60), "the process that opened .* ran out of memory"),
    ],
)
def test_too_little_memory_says_nothing_of_an_artefact(
    packed: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    limits: Limits | None,
    reason: str,
) -> None:
    def open_it(path: Path, options: Options) -> Session:
        raise error

    monkeypatch.setattr("edgeport.runtimes.null.open", open_it)
    null = verify(Bundle.read(packed), threads=1, limits=limits).backends[1]
    assert null.outcome == "unusable"
    assert re.match(reason, null.reason or "")


def test_a_backend_that_is_missing_is_an_error_only_if_it_was_asked_for(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "edgeport.runtimes.ort.cpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ort, null = verify(Bundle.read(packed), threads=1).backends
    assert (ort.outcome, null.outcome) == ("unusable", "fail")
    assert ort.reason == "backend 'ort-cpu' needs 'onnxruntime', which is not installed"
    with pytest.raises(
        BackendMissingError,
        match=r"ort-cpu cannot be used here: .*not installed\n  fix: pip install 'edgeport\[ort\]'",
    ):
        verify(Bundle.read(packed), ["null", "ort-cpu"])


def test_an_engine_with_other_outputs(packed: Path, signature: Signature) -> None:
    samples = Bundle.read(packed).golden()
    other = NullSession(Signature(signature.inputs, signature.outputs[:1]), 1)
    with pytest.raises(EngineError, match="the outputs are logits, the module gives logits, label"):
        check_session(other, samples, Thresholds())


def test_a_sample_that_the_artefact_refuses_is_named(packed: Path) -> None:
    samples = Bundle.read(packed).golden()
    large = replace(samples[0], name="65 rows", inputs={"x": np.zeros((65, 8), np.float32)})
    with open_artefact(packed / "model.onnx", "ort-cpu") as session:
        with pytest.raises(EngineError, match=r"sample '65 rows': input 'x' has shape \[65, 8\]"):
            check_session(session, [large], Thresholds())
        assert check_session(session, [], Thresholds()) == ()


# ---- outputs that prove nothing


def constant(values: Array, samples: Sequence[Golden]) -> list[Golden]:
    """Samples whose logits are ``values`` in every row."""
    return [
        replace(
            sample,
            eager={**sample.eager, "logits": np.repeat(values[None], len(sample.inputs["x"]), 0)},
            oracle={},
        )
        for sample in samples
    ]


def scaled_onnx(path: Path, weights: Mapping[str, Array], scale: float, bias: Array) -> bytes:
    """The model with its last layer multiplied, and another last bias."""
    model = onnx.load_from_string((path / "model.onnx").read_bytes())
    for weight in model.graph.initializer:
        if weight.name == "w2":
            weight.CopyFrom(numpy_helper.from_array(weights["w2"] * np.float32(scale), "w2"))
        if weight.name == "b2":
            weight.CopyFrom(numpy_helper.from_array(bias, "b2"))
    data: bytes = model.SerializeToString()
    return data


def test_a_constant_output_proves_nothing_unless_it_is_allowed(
    packed: Path, samples: tuple[Golden, ...], weights: Mapping[str, Array]
) -> None:
    bias = np.array([3, 2, 1], np.float32)
    handmade.replace_artefact(packed, "onnx", scaled_onnx(packed, weights, 0, bias))
    labelled = [
        replace(
            sample, eager={**sample.eager, "label": np.zeros(len(sample.inputs["x"]), np.int64)}
        )
        for sample in constant(bias, samples)
    ]
    report = only(with_samples(packed, labelled))
    assert report.outcome == "uninformative"
    assert report.reason == (
        "output logits, label is the same on every sample, which proves nothing"
    )
    assert report.remedy is not None
    assert "--constant-output NAME" in report.remedy
    assert not Report("m", 1, Thresholds(), (report,)).passed
    allowed = Thresholds(constant_outputs=("logits", "label"))
    assert only(with_samples(packed, labelled, thresholds=allowed)).outcome == "pass"


def test_an_output_below_its_own_noise_proves_nothing(packed: Path) -> None:
    """Eager gives rounding noise where the truth is nearly zero: zeros would pass."""
    generator = np.random.default_rng(0)
    samples = []
    for sample in Bundle.read(packed).golden():
        truth = generator.normal(size=sample.eager["logits"].shape) * 1e-12
        noise = (truth + generator.normal(size=truth.shape) * 1e-8).astype(np.float32)
        samples.append(
            replace(sample, eager={**sample.eager, "logits": noise}, oracle={"logits": truth})
        )
    session = NullSession(Bundle.read(packed).manifest.signature, 1)
    verdicts = check_session(session, samples, Thresholds())
    assert {v.status for v in verdicts if v.output == "logits"} == {"pass"}  # the danger
    labels = [
        replace(s, eager={**s.eager, "label": np.zeros(len(s.inputs["x"]), np.int64)})
        for s in samples
    ]
    report = only(with_samples(packed, labels), "null")
    assert (report.outcome, len(report.failures)) == ("uninformative", 0)
    assert report.reason == (
        "output label is the same on every sample and output logits is drowned in its rounding "
        "error, which proves nothing"
    )


def test_floors_are_pooled_over_samples_that_are_alike_and_not_over_edge_cases(
    packed: Path,
) -> None:
    bundle = Bundle.read(packed)
    with bundle.open("ort-cpu") as session:
        verdicts = check_session(session, bundle.golden(), Thresholds())
    floors = [v.figures.floor_rms for v in verdicts if v.output == "logits"]
    usual = max(floors[:3])
    assert min(floors[:3]) > usual / 4
    assert [v.sample for v in verdicts if v.output == "label"] == [f"sample {i}" for i in range(4)]


# ---- reports


def report(*outcomes: str) -> Report:
    backends = tuple(BackendReport("b", "f", outcome) for outcome in outcomes)  # type: ignore[arg-type]  # literals below
    return Report("m", 1, Thresholds(), backends)


@pytest.mark.parametrize(
    ("outcomes", "passed", "nothing_ran"),
    [
        (["pass"], True, False),
        (["pass", "unusable"], True, False),
        (["pass", "fail"], False, False),
        (["pass", "uninformative"], False, False),
        (["unusable"], False, True),
        (["fail", "unusable"], False, False),
    ],
)
def test_what_counts_as_passed(outcomes: list[str], passed: bool, nothing_ran: bool) -> None:
    found = report(*outcomes)
    assert (found.passed, found.nothing_ran) == (passed, nothing_ran)


def test_a_report_becomes_json(packed: Path) -> None:
    value = verify(Bundle.read(packed), threads=1).to_json()
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert (value["report_version"], value["passed"]) == (3, False)
    assert value["thresholds"] == Thresholds().to_json()
    ort = value["backends"][0]
    assert (ort["backend"], ort["file"], ort["outcome"]) == ("ort-cpu", "model.onnx", "pass")
    assert ort["engine"]["provider"] == "CPUExecutionProvider"
    assert {"output", "sample", "status", "reason", "figures", "kind"} == ort["verdicts"][0].keys()
