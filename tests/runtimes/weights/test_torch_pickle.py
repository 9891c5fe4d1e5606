import contextlib
import pickle
import sys
from collections import OrderedDict
from typing import Any

import pytest
from hostile_pickles import BAD_KEYS, keyed, text
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes.weights.torch_pickle import Elsewhere, Made, told

PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(-(2**70), 2**70) | st.booleans(), inner)
        | st.lists(inner).map(tuple)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_are_told_as_pickle_tells_them(value: object) -> None:
    data = pickle.dumps(value, 2)
    assert repr(told(data)) == repr(keyed_by_text(value))  # NaN is not itself


def keyed_by_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): keyed_by_text(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(keyed_by_text, value))
    return value


class Told:
    """Pickled as torch pickles an object, with a storage in it."""


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> object:
        return ("storage", "key") if isinstance(obj, bytes) else None


def test_what_would_be_called_is_told_and_not_called() -> None:
    import io

    value = Told()
    value.__dict__.update(weight=b"a storage", order=OrderedDict())
    file = io.BytesIO()
    Pickler(file, 2).dump((value, value))
    first, second = told(file.getvalue())
    assert isinstance(first, Made)
    assert first is second
    assert first.name.endswith("test_torch_pickle.Told") or "copyreg" in first.name
    assert first.state["weight"] == Elsewhere(("storage", "key"))
    assert first.state["order"].name == "collections.OrderedDict"


def test_a_payload_is_only_a_name() -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return sys.exit, ("it was called",)

    made = told(pickle.dumps(Payload(), 2))
    assert made.name == "sys.exit"
    assert made.args == ("it was called",)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "exhausted before seeing STOP"),
        (b"\x80\x02.", "pop from empty list"),
        (b"\x80\x02R.", "nothing is there"),
        (b"\x80\x02t.", "pop from empty list"),
        (b"\x80\x02h\x07.", "list index out of range"),
        (b"\x80\x02Nq\x07.", "place 7 is not the next one"),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "place 4294967295 is not the next one"),
        *((keyed(key), "a key is no text") for key in BAD_KEYS.values()),
        (keyed(text("k" * 1001)), "a key has 1001 characters"),
        (b"\x80\x02" + b"N" * 2_000_001 + b".", "more than 2,000,000 steps"),
        (b"\x80\x02K\x01K\x02s.", ""),
        (b"\x80\x02}(K\x01u.", "shorter"),
        (b"\x80\x02cos\nsystem\n", "exhausted before seeing STOP"),
        (b"\x80\x02K\x01K\x02R.", "'int' object has no attribute 'name'"),
        (b"(i__main__\nx\n.", "it holds INST"),
        (b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.", "it holds FRAME"),
        (b"\x82\x01.", "it holds EXT1"),
    ],
)
def test_damage(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=rf"not as torch writes it: .*{problem}"):
        told(data)


@given(st.binary(max_size=60))
def test_noise_raises_nothing_else(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        told(b"\x80\x02" + data)
