"""Parity in a user's own tests, with real engines, for files of ours and of anybody."""

import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from edgeport import deploy
from edgeport.runtimes import (
    BackendMissingError,
    EngineError,
    InputError,
    MissingFileError,
    ParityError,
    SourceError,
    UsageError,
)
from edgeport.runtimes.bundles.packing import pack
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.testing import assert_parity


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(16, 3)

    def forward(self, image: Tensor, scale: Tensor) -> dict[str, Tensor]:
        hidden = self.drop(self.first(image).relu())
        return {"logits": self.last(hidden) * scale, "label": self.last(hidden).argmax(-1)}


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def draw(number: int) -> dict[str, Array]:
    generator = np.random.default_rng(number)
    rows = (1, 2, 7, 5)[number]
    return {
        "image": generator.standard_normal((rows, 8)).astype(np.float32),
        "scale": generator.standard_normal((rows, 1)).astype(np.float32),
    }


SAMPLES = [draw(number) for number in range(4)]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file that torch's older exporter made, with names of its own."""
    path = tmp_path_factory.mktemp("foreign") / "foreign.onnx"
    example = tuple(torch.tensor(array) for array in SAMPLES[1].values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net(), example, str(path), dynamo=False, input_names=["pixels", "factor"],
            output_names=["logits", "label"],
            dynamic_axes={"pixels": {0: "rows"}, "factor": {0: "rows"}},
        )  # fmt: skip  # one call
    return path


def damaged(path: Path, to: Path, tensor: str, factor: float) -> Path:
    model = onnx.load(path)
    for initializer in model.graph.initializer:
        if initializer.name == tensor:
            array = numpy_helper.to_array(initializer).copy()
            initializer.CopyFrom(numpy_helper.from_array(array * np.float32(factor), tensor))
            onnx.save(model, to)
            return to
    raise KeyError(tensor)


def test_a_foreign_onnx_file_passes_with_every_figure(foreign: Path) -> None:
    verdicts = assert_parity(net(), foreign, SAMPLES)
    assert len(verdicts) == 2 * 4 * 2  # optimised and not, samples, outputs
    assert all(verdict.status == "pass" for verdict in verdicts)
    assert {verdict.figures.rule for verdict in verdicts} == {"oracle", "exact"}
    names: list[str] = ["pixels", "factor"]
    renamed = [dict(zip(names, sample.values(), strict=True)) for sample in SAMPLES]
    assert len(assert_parity(net(), str(foreign), renamed, backend="ort-cpu")) == len(verdicts)
    assert len(assert_parity(net(), foreign, draw)) == len(verdicts)
    assert len(assert_parity(net(), foreign, SAMPLES[2])) == len(verdicts) // 4


def test_a_failure_is_worth_reading(foreign: Path, tmp_path: Path) -> None:
    wrong = damaged(foreign, tmp_path / "wrong.onnx", "last.bias", 1.5)
    with pytest.raises(AssertionError) as caught:
        assert_parity(net().train(), wrong, SAMPLES)
    lines = str(caught.value).splitlines()
    assert lines[0] == "wrong.onnx does not compute what Net computes"
    told = {line.split()[0]: " ".join(line.split()[1:]) for line in lines if line.startswith("  ")}
    assert told["output"] == "logits"
    assert told["sample"] == "sample 0: image float32[1, 8], scale float32[1, 1]"
    assert told["backend"].startswith("ort-cpu (onnxruntime ")
    ratio = float(told["ratio"].split()[0])
    assert ratio > 1e3
    assert told["ratio"].endswith("times the noise floor, 8 allowed")
    assert told["floor"].endswith("the module's own distance from float64")
    model = net()
    with torch.no_grad():
        expected = model(*(torch.tensor(array) for array in SAMPLES[0].values()))["logits"]
    place = tuple(map(int, told["worst"].partition("]")[0].removeprefix("at [").split(",")))
    assert f"the module gives {expected[place].item():.9g} (in float64 " in told["worst"]
    assert ", the artefact " in told["worst"]
    assert "Net was in training mode; its eval mode is what was compared" in lines
    assert "fix: make it again, from these weights and in eval mode" in str(caught.value)


class Folded(nn.Module):
    """A batch baked in by reshape."""

    def forward(self, image: Tensor) -> Tensor:
        rows = image.shape[0] if torch._C._is_tracing() is False else 2
        return image.sum(1) * rows


def test_a_size_that_was_baked_in_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced: Any = torch.jit.trace(Folded(), torch.ones(2, 8))  # type: ignore[no-untyped-call]
        traced.save(str(path))
    samples = [{"image": sample["image"]} for sample in SAMPLES]
    assert len(assert_parity(Folded(), path, samples[1])) == 1
    with pytest.raises(ParityError, match="does not compute what Folded") as caught:
        assert_parity(Folded(), path, samples)
    assert "it is right on sample 1: image float32[2, 8]" in caught.value.remedy
    assert "baked in" in caught.value.remedy


def test_what_only_the_optimiser_hides_is_told(tmp_path: Path) -> None:
    path = tmp_path / "train.onnx"
    dropout = nn.Sequential(nn.Linear(8, 3), nn.Dropout(0.5))
    training = torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            dropout.train(), (torch.ones(2, 8),), str(path), dynamo=False, training=training,
            input_names=["input"], dynamic_axes={"input": {0: "rows"}}, do_constant_folding=False,
        )  # fmt: skip  # one call
    with pytest.raises(ParityError, match="does not compute what Sequential computes") as caught:
        assert_parity(dropout, path, {"input": SAMPLES[2]["image"]})
    assert "eval mode" in caught.value.remedy


def test_files_that_torch_made(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch")
    example = tuple(torch.tensor(array) for array in SAMPLES[1].values())
    program = torch.export.export(
        net(), example, dynamic_shapes={"image": {0: batch}, "scale": {0: batch}}
    )
    torch.export.save(program, tmp_path / "m.pt2")
    assert len(assert_parity(net(), tmp_path / "m.pt2", SAMPLES[1:])) == 3 * 2
    other = Net().eval()
    with pytest.raises(ParityError, match=r"m\.pt2 does not compute what Net computes"):
        assert_parity(other, tmp_path / "m.pt2", SAMPLES[1:])
    (tmp_path / "bad.pt2").write_bytes(b"no archive")
    with pytest.raises(EngineError, match=r"torch cannot open .*bad\.pt2"):
        assert_parity(net(), tmp_path / "bad.pt2", SAMPLES)


def test_a_bundle_is_checked_on_every_backend(tmp_path: Path) -> None:
    lstm = nn.LSTM(4, 8, batch_first=True)  # its state is nested, with a first axis of one row
    state = (torch.randn(1, 2, 8), torch.randn(1, 2, 8))
    example = {"input": torch.randn(2, 5, 4), "hx": state}
    deploy.export(lstm, example, tmp_path / "m.edge", formats=("onnx", "torchscript"))
    verdicts = assert_parity(lstm, tmp_path / "m.edge", [example])
    assert len(verdicts) == 3 * 3  # ONNX twice and TorchScript; three outputs
    pack(tmp_path / "m.edge", tmp_path / "z.edge", zipped=True)
    assert len(assert_parity(lstm, tmp_path / "z.edge", [example])) == len(verdicts)
    with pytest.raises(UsageError, match=r"backend 'torch' does not open m\.edge"):
        assert_parity(lstm, tmp_path / "m.edge", [example], backend="torch")


class Constant(nn.Module):
    def forward(self, image: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return image * scale, torch.ones(len(image))


def test_samples_that_prove_nothing_do_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Constant()).save(str(path))  # type: ignore[no-untyped-call]
    with pytest.raises(ParityError, match="output output_1 is the same on every sample") as caught:
        assert_parity(Constant(), path, SAMPLES)
    assert "constant_outputs=('output_1',)" in caught.value.remedy
    allowed = Thresholds(constant_outputs=("output_1",))
    assert assert_parity(Constant(), path, SAMPLES, thresholds=allowed)


class Random(Net):
    def forward(self, image: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return super().forward(image + torch.rand_like(image), scale)


class Optional(Net):
    def forward(self, image: Tensor, scale: Tensor | None = None) -> dict[str, Tensor]:
        return super().forward(image, torch.ones(1) if scale is None else scale)


def test_samples_are_given_as_to_an_export(foreign: Path, tmp_path: Path) -> None:
    in_order = [tuple(map(torch.tensor, sample.values())) for sample in SAMPLES]
    assert len(assert_parity(net(), foreign, in_order)) == len(
        assert_parity(net(), foreign, SAMPLES)
    )
    one, x = nn.Linear(4, 2), torch.randn(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(one, x).save(tmp_path / "one.pt")  # type: ignore[no-untyped-call]  # torch's
    assert len(assert_parity(one, tmp_path / "one.pt", x)) == 1
    assert len(assert_parity(one, tmp_path / "one.pt", [x.numpy(), x[:2]])) == 2


OTHERS: Mapping[str, Array] = {"image": SAMPLES[0]["image"], "mask": SAMPLES[0]["scale"]}
WIDE = {name: array.astype(np.float64) for name, array in SAMPLES[0].items()}


@pytest.mark.parametrize(
    ("module", "samples", "error", "problem"),
    [
        (net(), [], UsageError, "there are no samples"),
        (net(), [{}], UsageError, "there are no samples"),
        (net(), [(np.zeros(1),) * 3], SourceError, "3 example inputs for forward"),
        (net(), [SAMPLES[0], OTHERS], SourceError, r"has no parameter 'mask'"),
        (
            Optional(),
            [SAMPLES[0], {"image": SAMPLES[1]["image"]}],
            UsageError,
            "sample 1 has image, sample 0 has image, scale",
        ),
        (net(), {"image": SAMPLES[0]["image"]}, SourceError, "Net fails on the sample image"),
        (net(), WIDE, SourceError, "Net fails on the sample image float64"),
        (Random(), SAMPLES, SourceError, "Random is not deterministic: aten::rand_like"),
        (nn.Linear(8, 3), {"input": SAMPLES[0]["image"]}, InputError, "takes pixels, factor"),
        (nn.Bilinear(8, 1, 3), SAMPLES, ParityError, r"has 2 outputs \(logits, label\), Bilinear"),
    ],
)
def test_what_cannot_be_compared(
    foreign: Path, module: nn.Module, samples: object, error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        assert_parity(module, foreign, samples)  # type: ignore[arg-type]  # some are wrong


def test_no_such_artefact(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such artefact"):
        assert_parity(net(), tmp_path / "m.onnx", SAMPLES)
    (tmp_path / "m.txt").write_text("")
    with pytest.raises(UsageError, match=r"nothing opens m\.txt"):
        assert_parity(net(), tmp_path / "m.txt", SAMPLES)


def test_without_torch(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None; from edgeport.testing import assert_parity; "
        "assert_parity(None, 'm.onnx', {})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "BackendMissingError: assert_parity needs 'torch', which is not i" in ended.stderr
    assert "  fix: pip install 'edgeport[export,ort]'" in ended.stderr


@pytest.mark.usefixtures("no_gpu")
def test_an_engine_without_its_gpu(tmp_path: Path) -> None:
    (tmp_path / "m.engine").touch()
    with pytest.raises(BackendMissingError, match=r"m\.engine cannot be checked here: "):
        assert_parity(net(), tmp_path / "m.engine", SAMPLES)


def test_a_file_in_int8_is_judged_by_signal_over_noise(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    drawn = {"input": np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)}
    path = tmp_path / "m.edge"
    deploy.export(module, drawn, path, dimensions={"input": {0: "batch"}}, precision="int8")
    for artefact in (path, path / "model.onnx"):
        reasons = [verdict.reason for verdict in assert_parity(module, artefact, drawn)]
        assert reasons
        assert all(reason.startswith("signal-to-noise ratio is") for reason in reasons)
    other = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    with pytest.raises(ParityError, match=r"problem +signal-to-noise ratio is .* 20 expected"):
        assert_parity(other, path, drawn)
