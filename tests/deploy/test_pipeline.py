"""What an export asks of its routes, and tells of them."""

import io
import json
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import zoo
from torch import Tensor, nn

from edgeport import __version__, deploy, runtimes
from edgeport.deploy.compilers.onnx_files import onnx_graph
from edgeport.deploy.compilers.torchscript import PRODUCER_FILE
from edgeport.runtimes import ExportError, StorageError, UsageError
from edgeport.runtimes.libtorch.session import EXTRA_FILE

BATCH = {"x": {0: "batch"}}


def x(*shape: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"x": torch.randn(*shape)}


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3).eval()


def test_what_happens_is_told_in_order(tmp_path: Path) -> None:
    events: list[deploy.Event] = []
    deploy.export(
        zoo.Branch(), x(2, 4), tmp_path / "m.edge", dimensions=BATCH, on_event=events.append
    )
    told = [
        (event.format, event.route, event.outcome)
        for event in events
        if isinstance(event, deploy.Attempt)
    ]
    assert told == [
        ("onnx", "dynamo", "refused"),
        ("onnx", "converted", "proved"),
        ("torchscript", "script", "proved"),
        ("pt2", "export", "refused"),
        ("pt2", "oblivious", "refused"),
        ("pt2", "strict", "refused"),
        ("pt2", "script", "proved"),
    ]
    began = [event.step for event in events if isinstance(event, deploy.Began)]
    routes = [f"{format_}: {route}" for format_, route, _ in told]
    assert began == ["reference", "compilers", *routes, "more inputs"]
    for event in events:
        if isinstance(event, deploy.Attempt) and event.outcome == "refused":
            assert event.diagnosis is not None
            assert event.diagnosis.family == "data-dependent control flow"
            assert "x.cos() if x.sum() > 0" in (event.diagnosis.source or "")
    for sign in (1, -1):
        given = sign * np.ones((3, 4), np.float32)
        for backend in ("ort-cpu", "libtorch", "torch"):
            with runtimes.open(tmp_path / "m.edge", backend) as session:
                expected = zoo.Branch()(torch.tensor(given)).numpy()
                np.testing.assert_allclose(session.run({"x": given})["output"], expected, 1e-6)


def test_a_full_disk_ends_the_export_and_not_one_route(full_disk: Path) -> None:
    events: list[deploy.Event] = []
    module = nn.Sequential(nn.Linear(4, 9000), nn.Linear(9000, 3)).eval()
    with pytest.raises(StorageError, match=r"cannot write .*/m\.edge/model\.onnx: No space left"):
        deploy.export(
            module, x(2, 4), full_disk / "m.edge", dimensions=BATCH, on_event=events.append
        )
    assert not list(full_disk.iterdir())
    assert not [event for event in events if isinstance(event, deploy.Attempt)]


class OneWay(nn.Module):
    """A branch that no sample takes, in code that only a trace can follow."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return x.cos() if x.sum() < 1e9 else x.sin()


class Louder(nn.Module):
    """A branch that only a trace can follow, in bfloat16: one way is 1.06 of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        y: Tensor = self.linear(x)
        return y * 1.06 if x[0, 0].float().detach().numpy() >= 0 else y


@pytest.mark.slow
def test_a_module_in_bfloat16_is_held_at_its_own_noise(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = {"x": torch.randn(4, 8, dtype=torch.bfloat16)}
    with pytest.raises(ExportError) as raised:
        deploy.export(
            Louder().bfloat16().eval(),
            given,
            tmp_path / "m.edge",
            dimensions=BATCH,
            formats=["torchscript"],
        )
    assert re.search(r"trace +wrong: libtorch: output, .* times the floor, 8", str(raised.value))


def test_a_branch_that_no_sample_took_is_said(tmp_path: Path) -> None:
    made = deploy.export(
        OneWay().eval(), x(2, 4), tmp_path / "m.edge", dimensions=BATCH, formats=["torchscript"]
    )
    (note,) = (note for note in made.notes if note.startswith("torchscript: "))
    assert note.startswith("torchscript: tests/deploy/test_pipeline.py:")
    assert "x.cos() if x.sum() < 1e9" in note
    assert "so the file refuses inputs that take the other: give a sample" in note
    assert made.notes[0].startswith("libtorch answers inputs with NaN, +Inf otherwise than the mod")
    sample = {"x": np.full((2, 4), 1e9, np.float32)}
    both = deploy.export(
        OneWay(), x(2, 4), tmp_path / "n.edge", dimensions=BATCH, formats=["torchscript"],
        samples=[{"x": x(2, 4)["x"].numpy()}, sample],
    )  # fmt: skip  # one call
    assert not [note for note in both.notes if "x.cos() if" in note]


class Hungry(nn.Module):
    """Takes 2 GiB, but only where it is recorded, and no other compiler can follow it."""

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        if x.sum() > 1e9:
            return x
        is_recorded = torch._C._is_tracing() or type(x) is not Tensor
        return x + torch.zeros(2**29 if is_recorded else 1)[0]


@pytest.mark.parametrize(
    ("limits", "problem", "remedy"),
    [
        (deploy.Limits(time_s=0.01), "it took longer than 0.01 s", "more time"),
        (deploy.Limits(memory_bytes=2**28), "refused: there is not enough memory", ""),
    ],
)
def test_limits(tmp_path: Path, limits: deploy.Limits, problem: str, remedy: str) -> None:
    with pytest.raises(ExportError) as caught:
        deploy.export(Hungry(), x(2, 4), tmp_path / "m.edge", formats="torchscript", limits=limits)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


class Crash(nn.Module):
    """Ends the process, but only that of a compiler."""

    def forward(self, x: Tensor) -> Tensor:
        if torch._C._is_tracing() or torch.compiler.is_compiling() or type(x) is not Tensor:
            import ctypes

            ctypes.string_at(0)
        return x.sin()


def test_a_crash_of_a_compiler_is_not_ours(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        deploy.export(Crash(), x(2, 4), tmp_path / "m.edge", formats="pt2")
    assert "SIGSEGV" in caught.value.problem
    assert list(tmp_path.iterdir()) == []


def test_weights_beside_a_large_onnx_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "LARGEST_FILE_BYTES", 1000)
    output = tmp_path / "m.edge"
    module = nn.Sequential(nn.Linear(4, 400), nn.ReLU(), nn.Linear(400, 3))
    made = deploy.export(module, x(2, 4), output, dimensions=BATCH, formats="onnx")
    (artefact,) = made.bundle.manifest.artefacts
    assert [stored.file for stored in artefact.external] == ["model.onnx.data"]
    assert artefact.stored.size_bytes < 4000 < artefact.external[0].size_bytes
    assert len({file.stat().st_mode for file in output.glob("model.onnx*")}) == 1
    assert runtimes.verify(runtimes.Bundle.read(output)).passed
    (output / "model.onnx.data").write_bytes(bytes(artefact.external[0].size_bytes))
    with pytest.raises(runtimes.IntegrityError, match=r"model\.onnx\.data"):
        runtimes.open(output)


@pytest.mark.parametrize(("opset", "target", "expected"), [(13, None, 13), (None, "ort-1.16", 19)])
def test_old_engines(tmp_path: Path, opset: int | None, target: str | None, expected: int) -> None:
    output = tmp_path / "m.edge"
    made = deploy.export(
        linear(), x(2, 4), output, dimensions=BATCH, formats="onnx", opset=opset, target=target
    )
    model = onnx.load(output / "model.onnx")
    assert model.opset_import[0].version == expected
    details = made.bundle.manifest.artefacts[0].details
    assert details["opset"] == expected
    assert details["ir_version"] == model.ir_version <= 9
    assert details.get("target") == target


def test_an_unknown_target_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ort-1\.99"):
        deploy.export(linear(), x(2, 4), tmp_path / "m.edge", target="ort-1.99")


def test_a_file_says_what_made_it(tmp_path: Path) -> None:
    made = deploy.export(linear(), x(2, 4), tmp_path / "m.edge", formats=["onnx", "torchscript"])
    model = onnx.load(tmp_path / "m.edge" / "model.onnx")
    assert (model.producer_name, model.producer_version) == ("edgeport", __version__)
    archive = zipfile.ZipFile(io.BytesIO((tmp_path / "m.edge" / "model.ts").read_bytes()))
    extra = {Path(name).name: name for name in archive.namelist() if "/extra/" in name}
    producer = json.loads(archive.read(extra[PRODUCER_FILE]))
    assert producer == {"producer": "edgeport", "version": __version__}
    assert json.loads(archive.read(extra[EXTRA_FILE])) == made.source.signature.to_json()


def test_the_debug_map_leads_to_the_users_line(tmp_path: Path) -> None:
    made = deploy.export(zoo.Branch(), x(2, 4), tmp_path / "m.edge", formats="onnx")
    nodes = json.loads(made.debug_maps["onnx"])["nodes"]
    assert {node["operator"] for node in nodes} >= {"If", "Cos", "Sin"}
    made = deploy.export(linear(), x(2, 4), tmp_path / "n.edge", formats="onnx")
    (gemm,) = json.loads(made.debug_maps["onnx"])["nodes"]
    assert gemm["operator"] == "Gemm"
    assert "linear.py:" in gemm["source"]


def test_training_mode_is_kept_only_if_asked(tmp_path: Path) -> None:
    def made(name: str, *, keep: bool) -> deploy.Export:
        torch.manual_seed(0)
        norm = nn.BatchNorm1d(4, momentum=0.5).train()
        return deploy.export(
            norm, x(8, 4), tmp_path / name, formats=["torchscript"], keep_training_mode=keep
        )

    kept, usual = made("a.edge", keep=True), made("b.edge", keep=False)
    assert kept.notes == ("the module is exported in training mode, as asked",)
    assert usual.notes == ("the module was in training mode; what is exported is its eval mode",)
    given = {"x": 5 + 3 * x(8, 4)["x"].numpy()}
    for found, mean in ((kept, 0), (usual, 4.5)):
        with runtimes.open(found.bundle.path, "libtorch") as session:
            assert session.run(given)["output"].mean() == pytest.approx(mean, abs=1)


def test_captured_calls_are_samples_and_say_what_is_free(tmp_path: Path) -> None:
    module = zoo.make("text encoder")
    with deploy.capture(module) as captured:
        for rows, time_steps in ((4, 9), (2, 5), (3, 12)):
            module(torch.randint(0, 50, (rows, time_steps)))
    made = deploy.export(module, captured, tmp_path / "m.edge", formats="torchscript")
    assert str(made.source.signature).startswith("tokens: int64[batch, tokens_1] -> ")
    kinds = [sample.kind for sample in made.bundle.golden()]
    assert set(kinds) == {"real", "edge"}
    assert made.bundle.golden()[0].inputs["tokens"].max() > 1


def test_inferred_dimensions(tmp_path: Path) -> None:
    made = deploy.export(
        zoo.make("convnet"), zoo.inputs("convnet"), tmp_path / "m.edge", dimensions="infer",
        formats="torchscript",
    )  # fmt: skip  # one call
    assert str(made.source.signature.inputs[0]).startswith("image: float32[batch, 3, ")
    assert made.source.signature.dimensions == ("batch", "image_2", "image_3")


def test_nested_results_are_rebuilt(tmp_path: Path) -> None:
    made = deploy.export(
        zoo.make("nested output"), zoo.inputs("nested output"), tmp_path / "m.edge",
        dimensions=zoo.ZOO["nested output"].dimensions, formats="torchscript",
    )  # fmt: skip  # one call
    expected = made.source.flat.nested(made.source.example_tensors())
    with runtimes.open(tmp_path / "m.edge", "libtorch") as session:
        found = session.signature.rebuild(session.run(made.source.example))
    _compare(found, expected)


def _compare(found: Any, expected: Any) -> None:
    if isinstance(expected, Tensor):
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            _compare(found[key], expected[key])
    else:
        assert type(found) is type(expected)
        for a, b in zip(found, expected, strict=True):
            _compare(a, b)


def test_the_reference_tells_how_far_it_is(tmp_path: Path) -> None:
    events: list[deploy.Event] = []
    deploy.export(linear(), x(2, 4), tmp_path / "m.edge", formats="pt2", on_event=events.append)
    told = [event for event in events if isinstance(event, deploy.Progress)]
    samples = runtimes.Bundle.read(tmp_path / "m.edge").golden()
    assert [event.stage for event in told] == [sample.name for sample in samples][: len(told)]
    assert [event.done for event in told] == [n / len(told) for n in range(len(told))] != []


def test_steps_tell_their_time(tmp_path: Path) -> None:
    events: list[deploy.Event] = []
    start = time.perf_counter()
    deploy.export(linear(), x(2, 4), tmp_path / "m.edge", formats="pt2", on_event=events.append)
    wall_s = time.perf_counter() - start
    ended = [event for event in events if isinstance(event, deploy.Ended)]
    assert [event.step for event in ended] == ["reference", "compilers", "more inputs"]
    (attempt,) = (event for event in events if isinstance(event, deploy.Attempt))
    assert min(attempt.compile_s, attempt.proof_s, *(event.wall_s for event in ended)) > 0
    assert sum(event.wall_s for event in ended) + attempt.compile_s + attempt.proof_s <= wall_s
