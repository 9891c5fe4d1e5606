import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeport.runtimes import FormatError
from edgeport.training import Epoch, History, Norms, Origin, Settings, Split
from edgeport.training.fitting import SCHEDULES
from edgeport.training.record import Record

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    asked = draw(st.integers(1, 5))
    done = draw(st.integers(1, asked))
    rate = draw(st.floats(0, 1e9, exclude_min=True))
    words = st.text(max_size=5)
    norms = st.dictionaries(words, NUMBERS, max_size=2)
    return Record(
        model=draw(st.text()),
        hyperparameters=draw(st.dictionaries(words, st.integers() | st.lists(words, max_size=2))),
        origin=Origin(
            draw(st.text()), draw(st.integers()), draw(st.text()),
            Split(draw(NUMBERS), draw(st.integers()), draw(st.booleans())),
            draw(st.dictionaries(words, words)), draw(words), tuple(draw(st.lists(words))),
        ),
        history=History(
            Settings(
                asked, draw(st.none() | st.integers(1)), rate, draw(st.integers(0, 2**63 - 1)),
                options=draw(st.dictionaries(words, st.booleans() | NUMBERS | st.integers())),
                schedule=draw(st.sampled_from(SCHEDULES)), patience=draw(st.none() | st.just(3)),
                clip_norm=draw(st.none() | st.just(1.5)), tf32=draw(st.booleans()),
            ),
            draw(words), draw(words),
            tuple(
                Epoch(n + 1, draw(NUMBERS), draw(NUMBERS), draw(NUMBERS), draw(NUMBERS))
                for n in range(done)
            ),
            (Norms(1, draw(norms), draw(norms)),), tuple(draw(st.lists(words, max_size=2))),
            draw(st.booleans()), draw(words),
        ),
        scores=draw(st.dictionaries(words, NUMBERS, max_size=2)),
        versions=draw(st.dictionaries(words, words)),
    )  # fmt: skip  # one look


def example() -> dict[str, Any]:
    history = History(
        Settings(2, 64, 0.003), "cross-entropy", "accuracy", (Epoch(1, 0.5, 0.25, 0.75, 0.003),)
    )
    origin = Origin("digits", 1797, "ab", Split(0.2, 42, stratified=False))
    record = Record(
        "small_cnn", {"channels": 4}, origin, history, {"accuracy": 0.75}, {"torch": "2"}
    )
    value: dict[str, Any] = json.loads(record.dumps())
    return value


def edited(path: str, value: object) -> str:
    """The example with one value changed; ``...`` removes it."""
    whole = example()
    place: Any = whole
    *outer, last = path.split(".")
    for key in outer:
        place = place[int(key) if key.isdecimal() else key]
    if value is ...:
        del place[last]
    else:
        place[int(last) if last.isdecimal() else last] = value
    return json.dumps(whole)


@given(records())
@settings(max_examples=50)
def test_what_is_written_is_read(record: Record) -> None:
    assert Record.loads(record.dumps(), "run.json") == record


@pytest.mark.parametrize(
    ("path", "value", "detail"),
    [
        ("schema_version", ..., "'schema_version' is missing"),
        ("schema_version", "1", "schema_version is '1'"),
        ("schema_version", True, "schema_version is True"),
        ("model", ..., "'model' is missing"),
        ("model", [], "list indices must be"),
        ("model.hyperparameters", [], "'list' object has no attribute 'items'"),
        ("data.sha256", None, "sha256 is None, expected a string"),
        ("data.more", 1, "'more' is not a key that belongs there"),
        ("data.split.stratified", 0, "stratified is 0, expected true or false"),
        ("data.classes", "ab", "classes is 'ab', expected a list"),
        ("data.schema", [], "schema is [], expected an object"),
        ("settings.batch_size", "all", "batch_size is 'all', expected an integer"),
        ("settings.options", {"x": None}, "options 'x' is None, expected"),
        ("settings.schedule", "up", "schedule is up, expected one of constant, cosine"),
        ("settings.epochs", 0, "epochs is 0, expected 1 or more"),
        ("settings.learning_rate", float("nan"), "NaN is not JSON"),
        ("epochs", [], "it has 0 epochs of 2"),
        ("epochs", [{}], "'number' is missing"),
        ("epochs.0.number", 2, "its epochs are numbered [2]"),
        ("epochs.0.cost", "low", "cost is 'low', expected a number"),
        ("epochs_done", 2, "epochs_done, completed are (2, False)"),
        ("completed", True, "epochs_done, completed are (1, True)"),
        ("versions.torch", 2, "versions 'torch' is 2, expected a string"),
    ],
)
def test_what_was_edited_is_named(path: str, value: object, detail: str) -> None:
    with pytest.raises(FormatError) as caught:
        Record.loads(edited(path, value), "runs/a/run.json")
    assert caught.value.problem.startswith("runs/a/run.json is not the record of a run: ")
    assert detail in caught.value.problem
    assert "train again" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (b"", "Expecting value"),
        (b"\xff", "can't decode byte"),
        (b"[1]", "it is not a JSON object"),
        (b"[" * 100_000, "it nests too deeply"),
        (edited("epochs.0.cost", 7.25).replace("7.25", "1e999"), "the number '1e999' is too large"),
    ],
)
def test_what_is_no_json_object(text: bytes | str, detail: str) -> None:
    with pytest.raises(FormatError, match=detail):
        Record.loads(text, "run.json")


def test_a_run_that_names_no_device_is_of_the_cpu() -> None:
    before = json.loads(edited("training.device", ...))
    del before["settings"]["tf32"]
    history = Record.loads(json.dumps(before), "run.json").history
    assert (history.device, history.settings.tf32) == ("cpu", False)


def test_a_later_version() -> None:
    with pytest.raises(FormatError, match="schema version 2, this edgeport reads 1") as caught:
        Record.loads(edited("schema_version", 2), "run.json")
    assert caught.value.remedy == "pip install --upgrade edgeport"


PATHS = ["schema_version", "completed", "epochs_done", "model", "model.name", "data", "settings"]
PATHS += ["model.hyperparameters", "data.split", "epochs", "epochs.0", "versions", "training"]
PATHS += ["norms", "scores", "data.schema", "training.warnings"]


@given(path=st.sampled_from(PATHS), value=JSON)
@settings(max_examples=100)
def test_no_edit_causes_another_error(path: str, value: object) -> None:
    with contextlib.suppress(FormatError):
        record = Record.loads(edited(path, value), "run.json")
        assert Record.loads(record.dumps(), "run.json") == record
