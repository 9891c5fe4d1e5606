import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.deploy import parse_inputs
from edgeport.runtimes import Range, TensorSpec, UsageError
from edgeport.runtimes.signature import DTYPES

NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True)


@given(NAMES, st.sampled_from(DTYPES), st.lists(st.integers(0, 2048) | NAMES, max_size=5))
def test_what_is_written_is_read(name: str, dtype: str, shape: list[int | str]) -> None:
    text = f"{name}={dtype}[{', '.join(map(str, shape))}]"
    assert parse_inputs([text]) == ((TensorSpec(name, dtype, tuple(shape)),), {})


def test_ranges() -> None:
    specs, ranges = parse_inputs(["a=int64[batch<=64,time:4..512]", "b=float32[batch,time,n:2..]"])
    assert specs[1].shape == ("batch", "time", "n")
    assert ranges == {"batch": Range(1, 64), "time": Range(4, 512), "n": Range(2, None)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image", "it is not NAME=DTYPE"),
        ("image=float32", "it is not NAME=DTYPE"),
        ("image=float[1]", "'float' is not a dtype"),
        ("image=float32[-1]", "'-1' is not a size"),
        ("image=float32[batch,?]", "'?' is not a size"),
        ("image=float32[n:4..2]", "'n:4..2' ends before it begins"),
    ],
)
def test_what_cannot_be_read_says_so(text: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_inputs([text])
    assert problem in caught.value.problem
    assert "write it like image=float32[batch,3,224,224]" in caught.value.remedy


def test_two_ranges_for_one_dimension() -> None:
    with pytest.raises(UsageError, match="'n' has another range in another input"):
        parse_inputs(["a=int8[n<=4]", "b=int8[n<=5]"])
