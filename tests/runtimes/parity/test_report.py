import copy
import json
from pathlib import Path
from typing import Any, get_args

import hostile
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeport import runtimes
from edgeport.runtimes import Bundle, FormatError, Report, UsageError, verify
from edgeport.runtimes.bundles.manifest import KINDS
from edgeport.runtimes.parity.distances import BINADES
from edgeport.runtimes.parity.figures import NonFiniteKind, Rule
from edgeport.runtimes.parity.report import REPORT_VERSION, BackendReport, Outcome, OutputFacts
from edgeport.runtimes.parity.thresholds import LARGEST_MAX_RATIO, Precision, Thresholds

SCHEMA = json.loads((Path(runtimes.__file__).parent / "parity/report.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A right engine, one that answers zeros, and one that is not here."""
    from edgeport.runtimes.parity.comparison import measure
    from edgeport.runtimes.parity.verdict import judge

    return _hand_made(judge, measure)


def _hand_made(judge: Any, measure: Any) -> Report:
    import numpy as np

    oracle = np.random.default_rng(0).normal(size=(4, 3))
    eager = oracle.astype(np.float32)
    right = measure(np.nextafter(eager, np.float32(9)), eager, oracle)
    wrong = measure(eager * np.float32(0), eager, oracle)
    odd = measure(np.full_like(eager, np.nan), eager, oracle)
    thresholds = Thresholds(constant_outputs=("y",))
    pairs = ((right, right), (right, wrong), (right, odd))
    backends = tuple(
        BackendReport(
            name,
            "f",
            "pass",
            verdicts=tuple(
                judge("y", f"sample {i}", figures, thresholds, kind=KINDS[i])
                for i, figures in enumerate(pair)
            ),
        )
        for name, pair in zip(("right", "zeros", "nan"), pairs, strict=True)
    )
    absent = BackendReport("absent", "f", "unusable", "not installed", "install it")
    facts = (OutputFacts("y", True, 1e6),)
    return Report("m", 2, thresholds, (*backends, absent), facts).judged(thresholds)


def test_the_schema_is_one_and_takes_real_reports(packed: Path, made: Report) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for report in (made, verify(Bundle.read(packed), threads=1)):
        value = report.to_json()
        text = json.dumps(value, allow_nan=False)
        VALIDATOR.validate(value)
        assert Report.loads(text, "r") == report
        assert json.loads(text) == value


def test_a_report_of_version_2_is_read(made: Report) -> None:
    value = made.to_json()
    old = {**value, "report_version": 2, "backends": []}
    for told in value["backends"]:
        engine = told["engine"]
        told = {name: each for name, each in told.items() if name != "repeats"}
        if engine is not None:
            told["engine"] = {n: each for n, each in engine.items() if n != "cpu_nodes"}
        old["backends"].append(told)
    assert Report.loads(json.dumps(old), "r") == made
    with pytest.raises(FormatError, match="r is no report of edgeport verify: a backend is 1"):
        Report.loads(json.dumps({**old, "backends": [1]}), "r")


def test_the_schema_lists_what_the_code_lists() -> None:
    defs = SCHEMA["$defs"]
    assert SCHEMA["properties"]["report_version"]["const"] == REPORT_VERSION
    assert defs["backend"]["properties"]["outcome"]["enum"] == list(get_args(Outcome))
    assert defs["backend"]["properties"]["reduced"]["enum"] == [*get_args(Precision), None]
    assert defs["verdict"]["properties"]["kind"]["enum"] == list(KINDS)
    figures = defs["figures"]["properties"]
    assert figures["rule"]["enum"] == list(get_args(Rule))
    kinds = figures["non_finite"]["items"]["properties"]["kind"]["enum"]
    assert kinds == list(get_args(NonFiniteKind))
    assert defs["max_ratio"]["maximum"] == LARGEST_MAX_RATIO


def test_judged_again_without_running(made: Report) -> None:
    assert [b.outcome for b in made.backends] == ["pass", "fail", "fail", "unusable"]
    assert not made.passed
    ratio = made.backends[0].verdicts[0].figures.ratio
    strict = made.judged(Thresholds(ratio / 2, ("y",)))
    right, *_, absent = strict.backends
    assert (right.outcome, right.reason) == ("fail", "2 of 2 comparisons failed")
    assert right.remedy is not None
    assert right.remedy.startswith("it passes with the default bars (docs/parity.md): ")
    assert "default bars" not in str(strict.backends[1].remedy)
    edge = strict.judged(
        Thresholds(ratio / 2, ("y",), {"y": ratio * 3})
    )  # the median has to be nearer
    assert edge.backends[0].outcome == "pass"
    assert absent == made.backends[-1]
    assert strict.judged(made.thresholds) == made
    loose = made.judged(Thresholds(LARGEST_MAX_RATIO, ("y",)))
    assert [b.outcome for b in loose.backends] == ["pass", "pass", "fail", "unusable"]


def test_an_output_that_proves_nothing_under_other_thresholds(made: Report) -> None:
    assert made.judged(Thresholds()).backends[0].outcome == "uninformative"
    facts = OutputFacts("y", False, 1e6)
    for thresholds, nothing in (
        (Thresholds(1e5), False),
        (Thresholds(1e6), True),
        (Thresholds(outputs={"y": 1e6}), True),
        (Thresholds(1e6, ("y",)), False),
    ):
        assert facts.proves_nothing(thresholds) is nothing


def test_a_threshold_of_an_output_that_is_not_there(made: Report) -> None:
    with pytest.raises(UsageError, match="no output is named 'z'\n  fix: the outputs are y"):
        made.judged(Thresholds(outputs={"z": 2}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "^r is no report of edgeport verify: Expecting value"),
        ("[]", r"^r is no report of edgeport verify: it is \[\], expected an object"),
        ('{"export_report_version": 1}', "report_version is None, expected an integer"),
        ('{"report_version": 1}', "^r: it has report version 1, this edgeport reads 3"),
        ('{"report_version": 4}', "^r: it has report version 4, this edgeport reads 3"),
        ('{"report_version": 3}', "^r is no report of edgeport verify: 'name' is missing"),
    ],
)
def test_text_that_is_no_report(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=f"{message}.*\n  fix: make.*edgeport verify NAME"):
        Report.loads(text, "r")


def test_a_threshold_that_is_none(made: Report) -> None:
    value = made.to_json()
    value["thresholds"]["max_ratio"] = 0
    with pytest.raises(FormatError, match=r"^r: the largest ratio is 0, expected more than 0"):
        Report.loads(json.dumps(value), "r")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
def test_whatever_is_put_in_place_of_a_value_is_refused_or_valid(data: st.DataObject) -> None:
    from edgeport.runtimes.parity.comparison import measure
    from edgeport.runtimes.parity.verdict import judge

    broken = copy.deepcopy(_hand_made(judge, measure).to_json())
    if hostile.put_anything(data, broken) in ("passed", "report_version", "ratio", "snr_db"):
        return  # these are not read
    try:
        found = Report.loads(json.dumps(broken), "r")
    except FormatError:
        return
    VALIDATOR.validate(broken)
    assert Report.loads(json.dumps(found.to_json(), allow_nan=False), "r") == found
    again = found.judged(Thresholds(1))  # nothing that was read stops it
    assert len(again.backends) == len(found.backends)


def test_bins_are_as_many_as_are_counted(made: Report) -> None:
    histogram = made.backends[0].verdicts[0].figures.histogram
    assert histogram is not None
    assert len(histogram.actual) == len(histogram.eager) == BINADES
    told = made.to_json()
    told["backends"][0]["verdicts"][0]["figures"]["histogram"]["eager"].pop()
    with pytest.raises(FormatError, match="a histogram has 32 and 31 bins"):
        Report.loads(json.dumps(told), "r")
