import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeport.deploy import parse_inputs
from edgeport.runtimes import Range, TensorSpec, UsageError
from edgeport.runtimes.signature import DTYPES

NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True)


@given(NAMES, st.sampled_from(DTYPES), st.lists(st.integers(0, 2048) | NAMES, max_size=5))
def test_what_is_written_is_read(name: str, dtype: str, shape: list[int | str]) -> None:
    text = f"{name}={dtype}[{', '.join(map(str, shape))}]"
    found = parse_inputs([text])
    assert found.specs == (TensorSpec(name, dtype, tuple(shape)),)
    assert found.ranges == {}
    assert found.arguments[name].dtype == getattr(torch, dtype)


def test_ranges() -> None:
    found = parse_inputs(["a=int64[batch<=64,time:4..512]", "b=float32[batch,time,n:2..]"])
    assert found.specs[1].shape == ("batch", "time", "n")
    assert found.ranges == {"batch": Range(1, 64), "time": Range(4, 512), "n": Range(2, None)}


def test_steps() -> None:
    found = parse_inputs(["image=float32[batch<=64:8,3,height:32..512:32,width:32..:32]"])
    assert found.specs[0].shape == ("batch", 3, "height", "width")
    assert found.ranges == {
        "batch": Range(8, 64, step=8),
        "height": Range(32, 512, step=32),
        "width": Range(32, step=32),
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image.=float32[1]", "it is not NAME=DTYPE"),
        ("image", "it is not NAME=DTYPE"),
        ("image=float32", "it is not NAME=DTYPE"),
        ("image=float[1]", "'float' is not a dtype"),
        ("image=float32[-1]", "'-1' is not a size"),
        ("image=float32[batch,?]", "'?' is not a size"),
        ("image=float32[n:32..512:0]", "the step of a range is 0"),
        ("image=float32[n:32..512:-32]", "'n:32..512:-32' is not a size"),
        ("image=float32[n:32]", "'n:32' is not a size"),
        ("image=float32[n:33..63:32]", "no multiple of 32 is in 33..63"),
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


def test_dots_lead_into_an_argument() -> None:
    texts = ["x=bfloat16[n]", "hx.0=float32[n]", "hx.1=float32[n]", "batch.ids=int64[n]"]
    found = parse_inputs(texts)
    assert [str(spec) for spec in found.specs] == [
        "x: float32[n]", "hx_0: float32[n]", "hx_1: float32[n]", "batch_ids: int64[n]",
    ]  # fmt: skip  # one line
    assert found.arguments["x"].dtype == torch.bfloat16
    assert isinstance(found.arguments["hx"], tuple)
    assert found.arguments["batch"]["ids"].dtype == torch.int64


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["a=int8[1]", "a=int8[1]"], "there is such an input already"),
        (["a=int8[1]", "a.0=int8[1]"], "'a.0' has the place of another input"),
        (["a.0=int8[1]", "a=int8[1]"], "'a' has the place of another input"),
    ],
)
def test_two_inputs_in_one_place(texts: list[str], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_inputs(texts)
    assert problem in caught.value.problem
