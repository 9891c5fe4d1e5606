from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes import FormatError
from edgeport.runtimes.libtorch import native_target
from edgeport.runtimes.libtorch.native_target import (
    LEVELS,
    NativeTarget,
    best_level,
    cpu_flags,
    missing_instructions,
)

V3 = "fpu sse sse2 " + LEVELS["x86-64-v3"]


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What this CPU says of itself: one of level 3, on a machine of its kind."""
    said = tmp_path / "cpuinfo"
    said.write_text(f"processor\t: 0\nflags\t\t: {V3}\nbugs\t: x\nflags\t\t: other\n")
    monkeypatch.setattr(native_target, "_CPUINFO", said)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return said


def test_each_level_has_what_the_one_before_has() -> None:
    before: set[str] = set()
    for names in LEVELS.values():
        assert set(names.split()) >= before
        before = set(names.split())


@pytest.mark.parametrize(
    ("lacking", "level"),
    [("", "x86-64-v3"), ("bmi2", "x86-64-v2"), ("ssse3", "x86-64")],
)
def test_the_level_is_the_highest_of_which_nothing_lacks(
    cpu: Path, lacking: str, level: str
) -> None:
    cpu.write_text(f"flags : {' '.join(flag for flag in V3.split() if flag != lacking)}")
    assert best_level() == level
    assert missing_instructions(["x86-64-v3"]) == ([lacking] if lacking else [])


def test_what_gcc_and_linux_call_otherwise_is_one(cpu: Path) -> None:
    cpu.write_text("flags : avx512_vnni amx_tile")
    assert missing_instructions(["avx512vnni", "amx-tile"]) == []
    assert missing_instructions(["avx512bf16"]) == ["avx512bf16"]


def test_a_cpu_that_says_nothing_has_the_least(cpu: Path) -> None:
    cpu.unlink()
    assert cpu_flags() == ()
    assert best_level() == "x86-64"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (NativeTarget("x86_64", ("x86-64-v3",), "2.13.0"), None),
        (NativeTarget("x86_64", ("x86-64",), "2.13.0"), None),
        (
            NativeTarget("aarch64", ("armv8-a",), "2.13.0"),
            "it was compiled for aarch64, and this machine is x86_64",
        ),
        (
            NativeTarget("x86_64", ("x86-64-v3", "avx512_vnni", "amx_tile"), "2.13.0"),
            "it was compiled for x86-64-v3, avx512_vnni, amx_tile, and this CPU has no "
            "avx512_vnni, amx_tile",
        ),
        (
            NativeTarget("x86_64", ("x86-64-v3",), "2.12.1"),
            r"it was compiled for torch 2.12.1, and this is torch 2.13.0+cpu",
        ),
    ],
)
def test_what_does_not_fit_is_named(cpu: Path, target: NativeTarget, reason: str | None) -> None:
    assert target.mismatch("2.13.0+cpu") == reason


texts = st.text(max_size=20)


@given(st.builds(NativeTarget, texts, st.lists(texts, max_size=5).map(tuple), texts))
def test_what_is_written_is_read(target: NativeTarget) -> None:
    assert NativeTarget.loads(target.dumps(), "m") == target


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "Expecting value"),
        (b"\xff", "can't decode"),
        (b"[]", "expected an object"),
        (b'{"machine": "x86_64", "instructions": []}', "'torch' is missing"),
        (b'{"machine": 1, "instructions": [], "torch": ""}', "the machine is 1"),
        (b'{"machine": "", "instructions": "v3", "torch": ""}', "expected a list"),
        (b'{"machine": "", "instructions": [3], "torch": ""}', "an instruction is 3"),
        (b'{"machine": "", "instructions": [], "torch": "", "x": 1}', "'x' is not a key"),
    ],
)
def test_what_says_something_else_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(FormatError, match=f"m does not say for which machine.*{problem}") as caught:
        NativeTarget.loads(text, "m")
    assert caught.value.remedy == "export it again"
