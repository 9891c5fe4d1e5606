import copy
import json
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import zoo
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.runtimes import (
    BackendMissingError,
    EdgeportError,
    ExistingFileError,
    ExportError,
    ParityError,
    Range,
    SourceError,
    StorageError,
    UsageError,
)
from edgeport.runtimes.libtorch.threads import thread_count
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.testing import assert_parity

BATCH = {"x": {0: "batch"}}


def x(*shape: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"x": torch.randn(*shape)}


@pytest.mark.parametrize(
    "around",
    [
        torch.inference_mode,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: torch.device("meta"),
    ],
    ids=["inference mode", "autocast", "default device"],
)
def test_what_a_script_sets_around_an_export_is_not_in_it(tmp_path: Path, around: Any) -> None:
    example, module = x(2, 4), nn.Linear(4, 2)
    want = module(example["x"]).detach().numpy()
    with around():
        made = deploy.export(
            module, example, tmp_path / "m.edge", dimensions=BATCH, formats=["onnx", "pt2"]
        )
        assert_parity(module, tmp_path / "m.edge", {"x": example["x"]})
    floors = [
        v.figures.floor_max for each in made.report.backends for v in each.verdicts if v.figures
    ]
    assert max(floors) < 1e-4  # bfloat16's are a hundred times as large
    with runtimes.open(tmp_path / "m.edge", backend="torch") as session:
        (output,) = session.run({"x": example["x"].numpy()}).values()
    np.testing.assert_allclose(output, want, rtol=1e-6, atol=1e-7)


def test_threads_that_export_wait_for_each_other(tmp_path: Path) -> None:
    """Each has the output of the process go elsewhere meanwhile: in the end it stayed there."""
    stdout, default = sys.stdout, torch.get_default_dtype()
    example, modules = x(2, 4), [nn.Linear(4, size) for size in (2, 3, 4)]

    def exported(module: nn.Linear) -> deploy.Export:
        path = tmp_path / f"{module.out_features}.edge"
        return deploy.export(module, example, path, formats=["torchscript"])

    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(exported, modules))
    sizes = [[spec.shape for spec in each.source.signature.outputs] for each in made]
    assert sizes == [[(2, 2)], [(2, 3)], [(2, 4)]]
    assert sys.stdout is stdout
    assert torch.get_default_dtype() == default


def test_the_file_has_the_opset_that_was_asked(tmp_path: Path) -> None:
    for opset in (18, 24):
        output = tmp_path / f"{opset}.edge"
        made = deploy.export(nn.Linear(4, 2), x(2, 4), output, formats=["onnx"], opset=opset)
        model = onnx.load(output / "model.onnx")
        assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset}
        assert model.ir_version <= 13
        assert made.bundle.manifest.artefacts[0].details["opset"] == opset


def test_the_callers_module_is_left_as_it_was(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)).train()
    before = copy.deepcopy(module.state_dict())
    deploy.export(module, x(2, 4), tmp_path / "m.edge", dimensions=BATCH)
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_a_module_that_writes_into_its_inputs_cannot_reach_the_caller(tmp_path: Path) -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2) + 1

    given = x(2, 4)
    before = given["x"].clone()
    output = tmp_path / "m.edge"
    deploy.export(InPlace(), given, output, dimensions=BATCH, formats=["torchscript"])
    assert torch.equal(given["x"], before)
    array = before.numpy().copy()
    with runtimes.open(output, "libtorch") as session:
        session.run({"x": array})
    np.testing.assert_array_equal(array, before.numpy())


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            x = 2 * x
        answer: Tensor = self.layer(x)
        return answer


@pytest.mark.usually("True")
@pytest.mark.parametrize("frozen", [False, True])
def test_scripted_code_whose_source_is_gone(tmp_path: Path, frozen: bool) -> None:
    file = tmp_path / "of_somebody.pt"
    jit: Any = torch.jit  # it has no types
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")  # torch 2.13: every torch.jit entry
        scripted = jit.script(Branch().eval())
        (jit.freeze(scripted) if frozen else scripted).save(str(file))
        module = jit.load(file)
    made = deploy.export(
        module, x(2, 4), tmp_path / "m.edge", dimensions=BATCH, formats=["onnx", "torchscript"]
    )
    assert str(made.source.signature) == "x: float32[batch, 4] -> output: float32[batch, 3]"
    with pytest.raises(
        SourceError, match=r"forward\(x\) has no parameter 'y'\n  fix: its parameters are x"
    ):
        deploy.export(module, {**x(2, 4), "y": torch.zeros(1)}, tmp_path / "n.edge")


class Rows(nn.Module):
    """Takes a free size for a number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y % x.shape[0] + x.shape[0] // 2


class Steps(Rows):
    """And has a branch on values, a loop, and what ONNX lacks."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x).trunc() % x.shape[0]
        if bool(x.sum() > 0):
            y = -y
        total = y[0]
        for step in range(x.shape[0]):
            total = total * 0.5 + y[step]
        return total


@pytest.mark.usually("module1")
@pytest.mark.parametrize("module", [Steps(), Rows()])
def test_scripted_code_goes_by_the_newer_exporter(tmp_path: Path, module: nn.Module) -> None:
    given = x(4, 3, 8)
    jit: Any = torch.jit  # it has no types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13: every torch.jit entry is deprecated
        scripts = isinstance(module, Steps)
        made = jit.script(module.eval()) if scripts else jit.trace(module.eval(), given["x"])
        made.save(str(tmp_path / "m.pt"))
        made = jit.load(tmp_path / "m.pt")
    events: list[deploy.Event] = []
    deploy.export(
        made,
        given,
        tmp_path / "m.edge",
        dimensions=BATCH,
        formats=["onnx", "pt2"],
        on_event=events.append,
    )
    attempts = [event for event in events if isinstance(event, deploy.Attempt)]
    assert [(a.format, a.route, a.outcome) for a in attempts] == [
        ("onnx", "dynamo", "proved"),
        ("pt2", "export", "proved"),
    ]


def test_real_samples_become_the_golden_ones(tmp_path: Path) -> None:
    rows = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    made = deploy.export(
        nn.Linear(4, 2), x(2, 4), tmp_path / "m.edge", dimensions=BATCH, samples=[{"x": rows}]
    )
    golden = made.bundle.golden()
    assert [sample.kind for sample in golden] == ["real"] * 4 + ["edge"] * 8
    assert [sample.name for sample in golden[4:]] == [
        "zeros", "ones", "large", "denormal", "some zeros", "NaN", "+Inf", "-Inf"
    ]  # fmt: skip  # as one line
    np.testing.assert_array_equal(golden[0].inputs["x"], rows[:1])
    assert golden[0].oracle["output"].dtype == np.float64


def test_a_range_is_kept_and_holds_on_the_device(tmp_path: Path) -> None:
    output = tmp_path / "m.edge"
    deploy.export(nn.Linear(4, 2), x(2, 4), output, dimensions=BATCH, ranges={"batch": Range(2, 9)})
    with runtimes.open(output) as session:
        assert session.run({"x": np.zeros((9, 4), np.float32)})["output"].shape == (9, 2)
        with pytest.raises(runtimes.InputError, match=r"axis 0 is 10, expected batch in 2\.\.9"):
            session.run({"x": np.zeros((10, 4), np.float32)})


def test_a_module_that_cannot_run_in_float64_is_judged_by_the_stated_rule(tmp_path: Path) -> None:
    class Repeats(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.repeat(1, x.element_size())

    made = deploy.export(Repeats(), x(2, 4), tmp_path / "m.edge", dimensions=BATCH, formats="pt2")
    verdicts = [v for report in made.report.backends for v in report.verdicts]
    assert {v.figures.rule for v in verdicts} == {"float32"}
    gap = "in float64 the module answers [1, 32], not [1, 16]"
    assert verdicts[0].reason.endswith(f"judged from eager, because {gap}")
    assert made.notes[0] == f"there is no float64 answer to judge by: {gap}"


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.SiLU()])
def test_the_digits_of_a_rare_class_survive(tmp_path: Path, last: nn.Module) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(4, 1)
    linear.bias.data.fill_(-12)
    module = nn.Sequential(linear, last).eval()
    deploy.export(module, x(8, 4), tmp_path / "m.edge", dimensions=BATCH, formats=["onnx"])
    with runtimes.open(tmp_path / "m.edge", backend="ort-cpu") as session:
        answer = session.run({"x": x(8, 4)["x"].numpy()})["output"]
    truth = module.double()(x(8, 4)["x"].double()).detach().numpy()
    assert np.abs(answer / truth - 1).max() < 1e-5  # ONNX Runtime's Sigmoid is off by a tenth here


class Roots(nn.Module):
    """Complex inside, through numpy: no compiler can follow, and a trace bakes the answer in."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_numpy(np.roots(x.detach().numpy().ravel()[:3]).real).sum().float()


class DeadTwice(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x.tanh(), x * 0, x.new_ones(2)


class CountsRows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        rows = torch.full((x.shape[0],), float(len(x.numpy())))
        return x.sum(1) + rows


class Drowned(nn.Module):
    """Of float32 around 1e7 nothing is left behind the point."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, x + 1e7 - 1e7


@pytest.mark.usually("module1", "module3", "module4", "module5", "module6", "module7")
@pytest.mark.parametrize(
    ("module", "formats", "error", "problem", "remedy"),
    [
        (
            Roots(),
            "torchscript",
            ExportError,
            "TorchScript: Roots cannot be compiled",
            "torch's function",
        ),
        (Roots(), "onnx", ExportError, "ONNX: Roots cannot be compiled", "torch"),
        (Roots(), "pt2", ExportError, "pt2: Roots cannot be compiled", "torch"),
        (CountsRows(), "torchscript", ExportError, "trace     wrong: libtorch", "torch"),
        (zoo.Noise(), "onnx", SourceError, "Noise is not deterministic", "as an input"),
        (
            zoo.Dead(),
            "onnx",
            ParityError,
            "the output 'output_1' is the same on every sample",
            "allow it with --constant-output output_1",
        ),
        (
            DeadTwice(),
            "onnx",
            ParityError,
            "each of the outputs 'output_1' and 'output_2' is the same on every sample, so it "
            "proves nothing",
            "allow it with --constant-output output_1",
        ),
        (
            Drowned(),
            "onnx",
            ParityError,
            "the output 'output_1' is drowned in its rounding error, so it proves nothing: eager "
            "itself is 2",
            "a mask that hides all that a row may look at",
        ),
    ],
)
def test_a_model_that_went_wrong_is_not_packed(
    tmp_path: Path,
    module: nn.Module,
    formats: str,
    error: type[EdgeportError],
    problem: str,
    remedy: str,
) -> None:
    with pytest.raises(error) as caught:
        deploy.export(module, x(2, 4), tmp_path / "m.edge", dimensions=BATCH, formats=[formats])
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@torch.library.custom_op("edgeport_exporter::halve", mutates_args=())
def halve(x: Tensor) -> Tensor:
    return x / 2


halve.register_fake(torch.empty_like)


class Halves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = halve(x)
        return y


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.experts[int(x.sum()) % 2](x)
        return y


class Floors(nn.Module):
    """Made of so large numbers that each rounding error is more than 1."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x.repeat(1, 16))
        return (y * 1e7).long()


class Cached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.places: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] not in self.places:
            self.places[x.shape[0]] = torch.arange(x.shape[0]).float()[:, None]
        places: Tensor = self.places[x.shape[0]]
        return x + places


class Noted(Experts):
    """What it leaves behind is written anew in each call: no cause of anything."""

    chosen = -1

    def forward(self, x: Tensor) -> Tensor:
        self.chosen = int(x.sum()) % 2
        y: Tensor = self.experts[self.chosen](x)
        return y


class Seeded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return x + torch.randn(x.shape)


@pytest.mark.usually("module0", "module1")
@pytest.mark.parametrize(
    ("module", "formats", "problem", "remedy"),
    [
        (Halves(), "pt2", "edgeport_exporter.halve is no operator of torch", "write what it com"),
        (Halves(), "torchscript", "edgeport_exporter is no operator of torch", "write what it com"),
        (Experts(), "pt2", "no layer is chosen by a number or a word", "ask each layer whether"),
        (Floors(), "onnx", "elements differ", "one rounding error in the inputs changes integers"),
        (Cached(), "pt2", "Cached cannot be compiled", "make what places holds in __init__, or "),
        (Noted(), "pt2", "no layer is chosen by a number or a word", "ask each layer whether"),
        (Seeded(), "onnx", "Seeded is not proved", "aten::randn in Seeded ("),
    ],
)
def test_the_remedy_begins_with_what_helps(
    tmp_path: Path, module: nn.Module, formats: str, problem: str, remedy: str
) -> None:
    with pytest.raises(EdgeportError) as caught:
        deploy.export(module, x(2, 4), tmp_path / "m.edge", dimensions=BATCH, formats=[formats])
    assert problem in caught.value.problem.splitlines()[0]
    assert caught.value.remedy.startswith(remedy)


def test_one_format_that_cannot_be_had_need_not_cost_the_others(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        deploy.export(
            Roots(), x(2, 4), tmp_path / "m.edge", dimensions=BATCH, formats=["pt2", "onnx"]
        )
    assert caught.value.remedy.endswith("; or leave pt2 out: --format onnx")


def test_an_output_without_elements_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="the output 'output' has no elements on any sample"):
        deploy.export(nn.Linear(4, 2), {"input": torch.zeros(0, 4)}, tmp_path / "m.edge")


def test_an_output_of_nan_proves_nothing(tmp_path: Path) -> None:
    lost = nn.Linear(4, 2)
    nn.init.constant_(lost.weight, torch.nan)
    with pytest.raises(ParityError, match="'output' is NaN on every sample") as caught:
        deploy.export(lost, {"input": torch.zeros(2, 4)}, tmp_path / "m.edge")
    assert "weights that are" in caught.value.remedy


def test_what_a_notebook_shows_of_an_export_is_short(tmp_path: Path) -> None:
    """All that it holds took 150 kB."""
    made = deploy.export(nn.Linear(2, 2), torch.randn(2, 2), tmp_path / "m.edge", formats=["pt2"])
    samples = made.report.samples
    assert str(made.report) == f"Report('m', {samples} samples: torch pass)"
    assert repr(made).endswith(f"m.edge': pt2; {made.report}; {len(made.notes)} notes)")
    assert repr(made.source).startswith("Source('m': input: float32[2, 2] -> output: float32[2, 2]")


def test_a_bundle_is_not_named_like_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"would be a bundle that is named like a \.pt2 file"):
        deploy.export(nn.Linear(2, 2), torch.zeros(2, 2), tmp_path / "m.pt2")
    assert not list(tmp_path.iterdir())


def test_a_constant_output_is_allowed_by_name(tmp_path: Path) -> None:
    thresholds = Thresholds(constant_outputs=("output_1",))
    made = deploy.export(
        zoo.Dead(), x(2, 4), tmp_path / "m.edge", dimensions=BATCH, thresholds=thresholds
    )
    assert made.report.passed
    assert runtimes.Bundle.read(tmp_path / "m.edge").manifest.thresholds == thresholds


class NeedsFour(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 4:
            raise RuntimeError("at most four rows")
        return x.sin()


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return ()


class Text(nn.Module):
    def forward(self, x: Tensor) -> str:
        return "text"


class DynamicCache:
    """As transformers keeps keys and values."""


class Caches(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, object]:
        return x, DynamicCache()


class Strange(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, slice]:
        return x, slice(3)


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.fft(x)
        return spectrum


class Sparse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu().to_sparse()


class Ragged(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.nested.nested_tensor([x[:1], x[1:]])


class Gradient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.autograd.grad(torch.ones(()), x)[0]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("module", "changes", "error", "problem", "remedy"),
    [
        (Gradient(), {}, SourceError, "Gradient fails on", "call requires_grad_() on what"),
        (NeedsFour(), {}, SourceError, "NeedsFour fails on", "batch:MIN..MAX"),
        (Nothing(), {}, SourceError, "the module returns no tensor", "return at least one"),
        (Text(), {}, SourceError, "the module returns no tensor", "return at least one"),
        (Strange(), {}, SourceError, "an output is of type slice, not a tensor", "dataclasses"),
        (Caches(), {}, SourceError, "is of type DynamicCache, not a tensor", "use_cache=False"),
        (Complex(), {}, SourceError, "an output is complex64", "view_as_real"),
        (Sparse(), {}, SourceError, "an output is a sparse tensor", "return output.to_dense()"),
        (
            Ragged(),
            {},
            SourceError,
            "an output is a nested tensor",
            "to_padded_tensor(output, 0.0)",
        ),
        (nn.Linear(5, 2), {}, SourceError, "Linear fails on x [2, 4]", "declared inputs"),
        (nn.Linear(4, 2), {"formats": ["tflite"]}, UsageError, "tflite", "onnx, torchscript, pt2"),
        (nn.Linear(4, 2), {"formats": []}, UsageError, "no format", "onnx, torchscript, pt2"),
        (nn.Linear(4, 2), {"formats": ["pt2"] * 2}, UsageError, "twice: pt2, pt2", "once"),
        (nn.Linear(4, 2), {"opset": 6}, UsageError, "opset 6", "24"),
        (nn.Linear(4, 2), {"dimensions": {"y": {0: "n"}}}, UsageError, "'y'", "inputs are x"),
        (nn.Linear(4, 2), {"dimensions": {"x": {2: "n"}}}, UsageError, "[2]", "inputs are x"),
        (nn.Linear(4, 2), {"output_names": ["a", "b"]}, SourceError, "2 output names", "output"),
        (nn.Linear(4, 2), {"ranges": {"batch": Range(3, 3)}}, UsageError, "holds one size", "3"),
        (
            nn.Linear(4, 2),
            {"ranges": {"batch": Range(0, 64, step=16)}},
            UsageError,
            "'batch' takes 0..64 in steps of 16, and torch.export takes 0 for no multiple",
            "begin at 16: batch:16..64:16",
        ),
        (nn.Linear(4, 2), {"output_names": ["x"]}, SourceError, "an input and of an output", "--"),
        (
            nn.Linear(4, 2),
            {"thresholds": Thresholds(constant_outputs=("y",))},
            UsageError,
            "no output is named 'y'",
            "the outputs are output",
        ),
        (
            nn.Linear(4, 2),
            {"samples": [{"x": np.zeros((2, 5), np.float32)}]},
            SourceError,
            "sample 0 does not fit the declared inputs",
            "x: float32[batch, 4]",
        ),
        (
            nn.Linear(4, 2),
            {"samples": [{"x": np.zeros((0, 4), np.float32)}]},
            SourceError,
            "sample 0",
            "",
        ),
    ],
)
def test_what_cannot_be_used_says_why(
    tmp_path: Path,
    module: nn.Module,
    changes: dict[str, Any],
    error: type[EdgeportError],
    problem: str,
    remedy: str,
) -> None:
    request: dict[str, Any] = {"dimensions": BATCH, **changes}
    with pytest.raises(error) as caught:
        deploy.export(module, x(2, 4), tmp_path / "m.edge", **request)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


class Outer(nn.Module):
    """Returns a buffer beside its answer, and takes names that one can mistake."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(3.0))

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(self.table, Tensor)
        return image + 2 * mask, self.table


def test_names_that_are_partly_those_of_forward_are_not_guessed(tmp_path: Path) -> None:
    inputs = {"mask": torch.ones(2, 3), "imag": torch.ones(2, 3)}
    with pytest.raises(SourceError) as caught:
        deploy.export(Outer(), inputs, tmp_path / "m.edge")
    assert "forward(image, mask) has no parameter 'imag'" in caught.value.problem
    assert caught.value.remedy == "rename it to 'image'"


def test_example_inputs_without_names_get_those_of_forward(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = deploy.export(
        Outer(),
        (torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)),
        tmp_path / "model.v1.edge",
        thresholds=Thresholds(constant_outputs=("output_1",)),
        formats=["torchscript", "pt2"],
    )
    assert [spec.name for spec in made.source.signature.inputs] == ["image", "mask"]
    assert made.source.name == "model.v1"
    for backend in ("libtorch", "torch"):
        with runtimes.open(tmp_path / "model.v1.edge", backend) as session:
            session.run(made.source.example)["output_1"][:] = 99  # it is the caller's
            np.testing.assert_array_equal(session.run(made.source.example)["output_1"], [0, 1, 2])


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda module: torch.compile(module, backend="eager")]
)
def test_wrappers_are_taken_off(tmp_path: Path, wrap: Any) -> None:
    made = deploy.export(wrap(nn.Linear(4, 2)), x(2, 4)["x"], tmp_path / "m.edge", formats="onnx")
    assert type(made.source.module) is nn.Linear


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(300, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[: x.shape[1]]


def test_the_declared_maximum_is_proved_whatever_it_is(tmp_path: Path) -> None:
    def made(most: int) -> deploy.Export:
        return deploy.export(
            Positions(),
            x(2, 5, 4),
            tmp_path / f"{most}.edge",
            dimensions={"x": {1: "time"}},
            ranges={"time": Range(1, most)},
            formats=["onnx"],
        )

    assert "random, time=300" in dict(made(300).bundle.manifest.samples)
    with pytest.raises(SourceError, match="Positions fails on"):
        made(512)
    with pytest.raises(UsageError, match="would be proved at"):
        made(2**30)


def test_the_number_of_threads_is_the_callers(tmp_path: Path) -> None:
    with thread_count(1):
        deploy.export(nn.Linear(4, 2), x(2, 4), tmp_path / "m.edge", formats=["torchscript"])
        assert torch.get_num_threads() == 1


class Options(nn.Module):
    """Takes what people pass beside one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        scale: Tensor,
        mode: str = "sum",
    ) -> Tensor:
        y = self.head(x) * scale
        y = y if mask is None else y * mask
        y = y if bias is None else y + bias
        return y.sum(-1) if mode == "sum" else y  # type: ignore[no-any-return]  # torch says Any


def test_optional_and_keyword_inputs_and_constants(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = {"x": torch.randn(2, 4), "bias": torch.randn(3), "scale": torch.randn(2, 1)}
    made = deploy.export(
        Options(),
        {**inputs, "mode": "none", "mask": None},
        tmp_path / "m.edge",
        dimensions={"x": {0: "batch"}, "scale": {0: "batch"}},
    )
    assert str(made.source.signature) == (
        "x: float32[batch, 4], bias: float32[3], scale: float32[batch, 1] "
        "-> output: float32[batch, 3]"
    )
    for backend in ("ort-cpu", "libtorch", "torch"):
        with runtimes.open(tmp_path / "m.edge", backend) as session:
            answer = session.run({name: tensor.numpy() for name, tensor in inputs.items()})
        expected = made.source.module(
            inputs["x"], None, inputs["bias"], scale=inputs["scale"], mode="none"
        )
        np.testing.assert_allclose(answer["output"], expected.detach().numpy(), rtol=1e-5)


def test_inputs_are_put_in_the_order_of_forward(tmp_path: Path) -> None:
    class Minus(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a - 2 * b

    torch.manual_seed(0)
    inputs = {"b": torch.randn(2, 3), "a": torch.randn(2, 3)}
    deploy.export(Minus(), inputs, tmp_path / "m.edge")
    for backend in ("ort-cpu", "libtorch", "torch"):
        with runtimes.open(tmp_path / "m.edge", backend) as session:
            answer = session.run({name: tensor.numpy() for name, tensor in inputs.items()})
        expected = (inputs["a"] - 2 * inputs["b"]).numpy()
        np.testing.assert_allclose(answer["output"], expected, rtol=1e-6)


def test_an_existing_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "m.edge").mkdir()
    (tmp_path / "m.edge" / "mine.txt").write_text("mine")
    with pytest.raises(ExistingFileError, match=r"m\.edge exists already"):
        deploy.export(Text(), x(2, 4), tmp_path / "m.edge")
    assert (tmp_path / "m.edge" / "mine.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is no folder, so "):
        deploy.export(nn.Linear(4, 2), x(2, 4), tmp_path / "file" / "m.edge")


def test_an_artefact_whose_engine_is_missing_is_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "edgeport.runtimes.ort.cpu", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendMissingError) as caught:
        deploy.export(nn.Linear(4, 2), x(2, 4), tmp_path / "m.edge", formats=["onnx"])
    assert "model.onnx cannot be proved here" in caught.value.problem
    assert "pip install 'edgeport[ort]'" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_onnx_is_the_same_bytes_in_two_processes(tmp_path: Path) -> None:
    code = """
import torch
from edgeport import deploy
torch.manual_seed(0)
made = deploy.export(torch.nn.Linear(4, 2), {"x": torch.ones(2, 4)}, path, formats=["onnx"],
                     dimensions={"x": {0: "batch"}})
found = made.bundle.manifest.artefacts[0].stored.sha256
"""
    command = [sys.executable, "-c", f"import sys; path = sys.argv[1]\n{code}\nprint(found)"]
    other = subprocess.check_output([*command, str(tmp_path / "other.edge")], text=True)
    here: dict[str, str] = {"path": str(tmp_path / "here.edge")}
    exec(code, here)  # where much was exported before
    assert here["found"] == other.strip()


def test_the_report_is_in_the_bundle(tmp_path: Path) -> None:
    made = deploy.export(nn.Linear(4, 2), x(2, 4), tmp_path / "m.edge", formats=["onnx"])
    text = (tmp_path / "m.edge" / "reports" / "parity.json").read_text()
    assert json.loads(text) == made.report.to_json()
    assert not {" ", "\n"} & set(re.sub(r'"[^"]*"', "", text))  # as short as it can be


def test_a_dimension_with_a_step_is_called_by_its_name(tmp_path: Path) -> None:
    class Looped(nn.Module):
        def forward(self, x: Tensor, **options: object) -> Tensor:
            for step in range(x.shape[1]):
                x = x + step
            return x

    with pytest.raises(EdgeportError, match="fixes the dimension 'time' to 8"):
        deploy.export(
            Looped(), x(2, 8), tmp_path / "m.edge", formats="pt2",
            dimensions={"x": {1: "time"}}, ranges={"time": Range(4, 32, step=4)},
        )  # fmt: skip  # one call


class Warns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("an argument of old", FutureWarning, stacklevel=2)
        y: Tensor = self.linear(x)
        return y


def test_what_a_module_warns_of_is_shown_once(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        example = {"x": torch.ones(2, 4)}
        deploy.export(Warns(), example, tmp_path / "w.edge", formats="torchscript")
    assert [str(each.message) for each in shown].count("an argument of old") == 1
