"""A script that runs without edgeport: it answers what our session answers, and judges as we do."""

import json
import re
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from handmade import replace_artefact, stored
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edgeport.runtimes import (
    Bundle,
    ExistingFileError,
    InputError,
    IntegrityError,
    Options,
    Signature,
    UsageError,
)
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.embed.bars import bars
from edgeport.runtimes.embed.script import write_script
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.parity.comparison import measure
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.parity.verdict import judge, judge_together

ALONE = """
import runpy, sys
sys.modules["edgeport"] = None  # it cannot be imported
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def check(script: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run the script as a device does: somewhere else, and without edgeport."""
    command = [sys.executable, "-W", "error", "-c", ALONE, str(script), *(options or ["--check"])]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)


def beside(script: Path) -> "subprocess.CompletedProcess[str]":
    """Run the script where it finds what lies beside it."""
    command = [sys.executable, str(script), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def embedded(bundle: Path) -> Path:
    script = bundle.with_name("infer.py")
    write_script(Bundle.read(bundle), script)
    return script


def test_it_passes_its_golden_samples_without_edgeport(packed: Path) -> None:
    done = check(embedded(packed))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("pass ") == 9  # 4 samples, 2 outputs


def test_who_reads_one_line_only_changes_nothing(packed: Path) -> None:
    line = '"$0" -W error "$1" --check | head -1; echo ${PIPESTATUS[0]}'
    command = ["bash", "-c", line, sys.executable, str(embedded(packed))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("pass ")
    assert (done.stdout.splitlines()[1:], done.stderr) == (["0"], "")


def test_no_room_for_what_it_prints_is_no_fault_of_the_model(packed: Path) -> None:
    command = [sys.executable, "-W", "error", str(embedded(packed)), "--check"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == f"{command[-2]}: [Errno 28] No space left on device\n"


def test_it_answers_what_the_session_answers(packed: Path) -> None:
    model = runpy.run_path(str(embedded(packed)))["Model"](threads=1)
    generator = np.random.default_rng(3)
    with Bundle.read(packed).open("ort-cpu", Options(threads=1)) as session:
        for rows in (1, 2, 3, 17, 64):
            x = np.asfortranarray(generator.normal(size=(rows, 8)).astype(np.float32))
            ours, its = session.run({"x": x}), model.run({"x": x})
            assert [*its] == [*ours]
            for name, answer in ours.items():
                np.testing.assert_array_equal(its[name], answer, strict=True)


def test_the_bundle_may_become_one_zip_file(packed: Path) -> None:
    script = embedded(packed)
    files = {file.name: file.read_bytes() for file in packed.iterdir()}
    for file in packed.iterdir():
        file.unlink()
    packed.rmdir()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    assert check(script).returncode == 0


def test_weights_beside_the_model_are_read(packed: Path, mlp_onnx: bytes) -> None:
    onnx.save(
        onnx.load_from_string(mlp_onnx),
        packed / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    weights = (packed / "model.onnx.data").read_bytes()
    external = [asdict(stored(packed, "model.onnx.data", weights))]
    data = (packed / "model.onnx").read_bytes()
    replace_artefact(packed, "onnx", data, external=external)
    script = embedded(packed)
    assert check(script).returncode == 0
    (packed / "model.onnx.data").write_bytes(weights[::-1])
    done = check(script)
    assert done.returncode == 1
    assert "model.onnx.data of" in done.stderr


class Mlp(torch.nn.Module):
    """What the fixture's ONNX file computes."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        super().__init__()
        self.w1, self.b1, self.w2, self.b2 = (
            torch.nn.Parameter(torch.tensor(weights[name])) for name in ("w1", "b1", "w2", "b2")
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = torch.relu(x @ self.w1 + self.b1) @ self.w2 + self.b2
        return logits, logits.argmax(1)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch deprecates torch.jit
def test_torchscript_is_taken_where_there_is_no_onnx(
    packed: Path, weights: Mapping[str, Array]
) -> None:
    trace: Any = torch.jit.trace
    scripted = trace(Mlp(weights), torch.zeros(2, 8))
    data = scripted.save_to_buffer()
    replace_artefact(packed, "onnx", data, format="torchscript", file="model.ts")
    script = embedded(packed)
    assert "onnxruntime" not in script.read_text()
    done = check(script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("pass ") == 9


def test_a_model_that_computes_something_else_fails(packed: Path, mlp_onnx: bytes) -> None:
    model = onnx.load_from_string(mlp_onnx)
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.001, weight.name))
    replace_artefact(packed, "onnx", model.SerializeToString())
    done = check(embedded(packed))
    assert done.returncode == 1
    assert "FAIL sample 0: logits, rms " in done.stdout
    assert "pass sample 0: label" in done.stdout


def test_a_flipped_byte_is_not_run(packed: Path) -> None:
    script = embedded(packed)
    data = bytearray((packed / "model.onnx").read_bytes())
    data[-1] ^= 1
    (packed / "model.onnx").write_bytes(data)
    done = check(script)
    assert done.returncode == 1
    assert done.stderr.endswith("is not the file that was packed: don't run it\n")
    assert "Traceback" not in done.stderr
    with pytest.raises(IntegrityError, match="is not the file that was packed"):
        write_script(Bundle.read(packed), script.with_name("again.py"))


def test_a_number_of_numpy_is_an_array_without_axes(template: dict[str, Any]) -> None:
    template["check_inputs"].__globals__.update(INPUTS={"scale": ("float32", ())})
    (array,) = template["check_inputs"]({"scale": np.float32(2)})
    np.testing.assert_array_equal(array, np.array(2, np.float32), strict=True)


@pytest.mark.parametrize("flag", [0x1, 0x20, 0x40])  # encrypted, patched, strongly encrypted
def test_a_zip_file_that_python_does_not_read_is_told(
    flag: int, tmp_path: Path, template: dict[str, Any]
) -> None:
    path = tmp_path / "m.edge"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.onnx", b"x")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= flag
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"cannot read model\.onnx of the bundle .*m\.edge: "):
        template["read"](path, "model.onnx", "")


def test_it_says_what_it_misses(packed: Path) -> None:
    script = embedded(packed)
    packed.rename(packed.with_name("elsewhere.edge"))
    done = check(script)
    assert done.returncode == 2
    assert "cannot read model.onnx of the bundle" in done.stderr
    assert "Traceback" not in done.stderr
    asked, wrong = check(script, "--help"), check(script, "--chekc")
    assert (asked.returncode, asked.stdout[:13], asked.stderr) == (0, "usage: python", "")
    assert (wrong.returncode, wrong.stdout, wrong.stderr[:13]) == (2, "", "usage: python")


def test_it_says_that_the_engine_is_missing(packed: Path) -> None:
    script = embedded(packed)
    script.with_name("onnxruntime.py").write_text("raise ImportError('no engine here')\n")
    done = beside(script)
    assert (done.returncode, done.stderr) == (3, f"{script}: no engine here\n")


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("sys.modules['numpy'] = None", "import of numpy halted"),
        ("sys.version, sys.version_info = '3.8.18 (x)', (3, 8)", "Python is 3.8.18, and 3.10 or"),
    ],
)
def test_it_says_that_numpy_is_missing_or_python_too_old(
    packed: Path, first: str, told: str
) -> None:
    code = ALONE.replace("import runpy, sys", f"import runpy, sys; {first}")
    command = [sys.executable, "-c", code, str(embedded(packed)), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert told in done.stderr


@pytest.mark.parametrize("imported", ["numpy", "onnxruntime"])
def test_ctrl_c_is_told(packed: Path, imported: str) -> None:
    script = embedded(packed)
    script.with_name(f"{imported}.py").write_text("raise KeyboardInterrupt\n")
    done = beside(script)
    assert (done.returncode, done.stderr) == (130, f"{script}: interrupted\n")


def test_no_memory_is_told(packed: Path) -> None:
    script = embedded(packed)
    script.with_name("onnxruntime.py").write_text("raise MemoryError\n")
    done = beside(script)
    assert (done.returncode, done.stderr) == (3, f"{script}: out of memory\n")


def test_a_bundle_without_an_engine_for_scripts(packed: Path) -> None:
    manifest = json.loads((packed / "manifest.json").read_text())
    manifest["artefacts"] = manifest["artefacts"][1:]
    (packed / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match=r"holds null, and a script opens onnx or torchscript"):
        embedded(packed)


def test_nothing_is_overwritten(packed: Path) -> None:
    script = embedded(packed)
    with pytest.raises(ExistingFileError, match=r"infer\.py exists already"):
        write_script(Bundle.read(packed), script)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({}, r"the inputs are \[\], this model takes \['x'\]"),
        ({"y": np.zeros((1, 8), np.float32)}, r"the inputs are \['y'\]"),
        ({"x": [[0.0] * 8]}, "input 'x' is list, expected float32"),
        ({"x": np.zeros((1, 8))}, "input 'x' is float64, expected float32"),
        ({"x": np.zeros((1, 8), ">f4")}, "input 'x' is >f4, expected float32"),
        ({"x": np.ma.zeros((1, 8), np.float32)}, "input 'x' is masked"),
        ({"x": np.float32(0)}, r"has shape \(\), expected \('batch', 8\)"),
        ({"x": np.zeros(8, np.float32)}, r"has shape \(8,\), expected \('batch', 8\)"),
        ({"x": np.zeros((1, 9), np.float32)}, r"9 is not in 8\.\.8"),
        ({"x": np.zeros((65, 8), np.float32)}, r"65 is not in 1\.\.64"),
    ],
)
def test_wrong_inputs(inputs: Mapping[str, Any], problem: str, packed: Path) -> None:
    checked = runpy.run_path(str(embedded(packed)))["check_inputs"]
    with pytest.raises(ValueError, match=problem):
        checked(inputs)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    from edgeport.runtimes.embed import script

    return runpy.run_path(str(Path(script.__file__).with_name("infer.py")))


@settings(max_examples=60)
@given(
    arrays=st.lists(
        st.tuples(
            st.sampled_from(["float32", "int64", ">f4"]),
            st.lists(st.integers(0, 4), min_size=1, max_size=3),
        ),
        min_size=2,
        max_size=2,
    )
)
def test_it_takes_what_the_session_takes(
    arrays: list[tuple[str, list[int]]], template: dict[str, Any]
) -> None:
    declared = {
        "inputs": [
            {"name": "a", "dtype": "float32", "shape": ["n", 3]},
            {"name": "b", "dtype": "int64", "shape": ["n", "m"]},
        ],
        "outputs": [],
        "ranges": {
            "n": {"min": 0, "max": 3, "opt": None},
            "m": {"min": 2, "max": 4, "opt": None, "step": 2},
        },
        "structure": None,
    }
    template["check_inputs"].__globals__.update(
        INPUTS={"a": ("float32", ("n", 3)), "b": ("int64", ("n", "m"))},
        RANGES={"n": (0, 3, 1), "m": (2, 4, 2)},
    )
    given_ = {n: np.zeros(shape, d) for n, (d, shape) in zip("ab", arrays, strict=True)}
    ours = accepts(InputCheck(Signature.from_json(declared)), given_, InputError)
    assert accepts(template["check_inputs"], given_, ValueError) == ours


def test_a_size_that_follows_others(template: dict[str, Any]) -> None:
    check = template["check_inputs"]
    check.__globals__.update(
        INPUTS={"a": ("int8", ("n", "m")), "b": ("int8", ("2*n+m-1",))},
        RANGES={"n": (0, 9, 1), "m": (0, 9, 1), "2*n+m-1": (0, 27, 1)},
        SUMS={"2*n+m-1": ({"n": 2, "m": 1}, -1)},
    )
    a = np.zeros((3, 2), np.int8)
    check({"a": a, "b": np.zeros(7, np.int8)})
    with pytest.raises(ValueError, match=re.escape("'2*n+m-1' is 6, expected 7: {'n': 3, ")):
        check({"a": a, "b": np.zeros(6, np.int8)})
    check.__globals__["SUMS"] = {}


def accepts(take: Callable[[Any], Any], inputs: Any, error: type[Exception]) -> bool:
    try:
        take(inputs)
    except error:
        return False
    return True


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    noise=st.sampled_from([0.0, 1e-7, 5e-7, 1e-6, 3e-6, 1e-3, np.inf, np.nan]),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e6]),
    oracle=st.booleans(),
    dtype=st.sampled_from(["float32", "float64", "float16", "int64"]),
)
def test_it_judges_as_the_rule_does(
    seed: int, noise: float, scale: float, oracle: bool, dtype: str, template: dict[str, Any]
) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=(3, 40)) * scale
    with np.errstate(over="ignore", invalid="ignore"):
        eager = truth.astype(dtype)
        actual = (eager * (1 + noise * generator.normal(size=eager.shape))).astype(dtype)
    eager.flat[5:7] = actual.flat[5:7] = np.array([0, 1]).astype(dtype)
    golden = Golden("s", "real", {}, {"y": eager}, {"y": truth} if oracle else {})
    ((outputs,), medians) = bars([golden], Thresholds())
    bar = outputs["y"]
    reference = {"eager": eager, "oracle": truth}[bar.reference]
    verdict = judge("y", "s", measure(actual, eager, golden.oracle.get("y")), Thresholds())
    (verdict,) = judge_together([verdict], Thresholds())
    rms, largest = template["errors"](actual, eager, reference)
    right = rms <= bar.rms and largest <= bar.largest
    for median in medians.values():
        right = right and rms / (bar.rms or 1) <= median.share
    assert right == (verdict.status == "pass"), (rms, largest, bar, medians, verdict)


@pytest.mark.parametrize("eager", [[np.nan, np.inf], []])
def test_no_number_to_compare_is_no_error(eager: list[float], template: dict[str, Any]) -> None:
    answer = np.array(eager, np.float32)
    assert template["errors"](answer, answer, answer.astype(np.float64)) == (0.0, 0.0)
