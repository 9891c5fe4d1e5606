"""Files in a narrower precision: made from the proved one, proved themselves."""

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.narrower import narrowing, wide_nodes
from edgeport.deploy.request import default_formats
from edgeport.runtimes import ContractError, ExportError, ParityError, StorageError, UsageError
from edgeport.runtimes.parity.thresholds import Precision, Reduced, Thresholds
from edgeport.runtimes.tensorrt.order import EngineOptions

BATCH = {"x": {0: "batch"}}
MEASURED = "int8: ranges of values were measured on"


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        tags: Tensor = self.head(self.lstm(x)[0])
        return tags


class Loud(nn.Module):
    """Its values leave float16 on the way, and come back."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return (y * 1e6).relu() * 1e-6


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


def images(*shape: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"x": torch.rand(*shape)}


def narrow(
    module: nn.Module, example: Any, output: Path, precision: Precision, **options: Any
) -> deploy.Export:
    options = {"dimensions": BATCH} | options
    return deploy.export(module, example, output, precision=precision, **options)


def signal_db(made: deploy.Export) -> float:
    (backend,) = made.report.backends
    return min(v.figures.snr_db for v in backend.verdicts if v.kind != "edge")


def operators(made: deploy.Export) -> set[str]:
    return {node.op_type for node in onnx.load(made.bundle.path / "model.onnx").graph.node}


def test_convolutions_have_ranges_that_are_measured_on_samples(tmp_path: Path) -> None:
    module, example = convolutions(), images(2, 3, 16, 16)
    made = narrow(module, example, tmp_path / "m.edge", "int8", samples=[
        {"x": np.random.default_rng(i).random((8, 3, 16, 16), np.float32)} for i in range(2)
    ])  # fmt: skip  # one thing
    (artefact,) = made.bundle.manifest.artefacts
    assert artefact.precision == "int8"
    assert artefact.details["quantization"] == "static, 100% of the weights"
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(made)
    assert 25 < signal_db(made) < 80  # rounded, and not by much
    assert artefact.details["ranges"] == "of 8 rows, half of the samples"
    assert any(note.startswith(f"{MEASURED} 8 rows, and others may leave") for note in made.notes)
    with runtimes.open(made.bundle.path) as session:
        assert session.engine.precision == "int8"
        assert session.signature == made.source.signature  # floats go in and come out
    assert runtimes.verify(made.bundle).passed


def test_what_is_in_int8_and_computes_in_float32_is_told(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 2, 4, 2))
    torch.manual_seed(0)
    made = narrow(module, {"x": torch.randn(2, 2, 16)}, tmp_path / "m.edge", "int8")
    assert made.bundle.manifest.artefacts[0].details["quantization"] == (
        "static, 100% of the weights; ONNX Runtime computes ConvTranspose in float32 on the CPU"
    )


def test_a_file_that_is_narrower_is_smaller(tmp_path: Path) -> None:
    module, example = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 4)), images(2, 64)
    plain = deploy.export(module, example, tmp_path / "m.edge", dimensions=BATCH, formats=["onnx"])
    sizes = {
        precision: narrow(module, example, tmp_path / f"{precision}.edge", precision)
        .bundle.manifest.artefacts[0]
        .stored.size_bytes
        for precision in ("float16", "int8")
    }
    before = plain.bundle.manifest.artefacts[0].stored.size_bytes
    assert sizes["float16"] < 0.6 * before
    assert sizes["int8"] < 0.4 * before


def test_recurrent_layers_measure_ranges_in_each_call(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = narrow(Tagger(), {"x": torch.randn(2, 5, 8)}, tmp_path / "m.edge", "int8")
    assert "DynamicQuantizeLSTM" in operators(made)
    assert str(made.bundle.manifest.artefacts[0].details["quantization"]).startswith("dynamic, ")
    assert "ranges" not in made.bundle.manifest.artefacts[0].details
    assert not any(MEASURED in note for note in made.notes)


def test_ranges_of_drawn_inputs_are_told(tmp_path: Path) -> None:
    made = narrow(convolutions(), images(2, 3, 8, 8), tmp_path / "m.edge", "int8")
    assert any(f"{MEASURED} drawn inputs, and real ones may leave" in note for note in made.notes)
    assert made.bundle.manifest.artefacts[0].details["ranges"] == "of 45 rows, drawn"


def test_float16_keeps_float32_at_both_ends(tmp_path: Path) -> None:
    made = narrow(convolutions(), images(2, 3, 16, 16), tmp_path / "m.edge", "float16")
    (artefact,) = made.bundle.manifest.artefacts
    assert (artefact.precision, made.source.signature.precision) == ("float16", "float32")
    model = onnx.load(made.bundle.path / "model.onnx")
    assert {t.data_type for t in model.graph.initializer if t.dims} <= {
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT64,
    }
    assert signal_db(made) > 50


def test_one_value_for_two_operators_that_stay_in_float32(tmp_path: Path) -> None:
    class Ranks(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.topk(3).values, x.cumsum(1)

    made = narrow(Ranks(), images(2, 8), tmp_path / "m.edge", "float16")
    assert signal_db(made) > 50


def test_edge_cases_beyond_float16_are_left_out_and_told(tmp_path: Path) -> None:
    class Shout(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(1) * 2000

    made = narrow(Shout(), images(2, 8), tmp_path / "m.edge", "float16")
    told = "edge cases left out, as float16 cannot hold their squares: large, denormal"
    assert told in made.notes
    kept = [name for name, _ in made.bundle.manifest.samples]
    assert "zeros" in kept
    assert not {"large", "denormal"} & set(kept)


class Quiet(nn.Module):
    """Of its answers float16 makes zeros; between its kernels ONNX Runtime keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y.relu() * 1e-5 * 1e-5


@pytest.mark.parametrize(
    ("module", "told", "kept"),
    [
        (Loud, "ort-cpu: output, random, batch=1: error is", "in 3 of 4 nodes"),
        (Quiet, "with each value rounded as on a GPU: ort-cpu: output, random, ba", "in 2 of 4"),
    ],
)
def test_what_leaves_float16_stays_in_float32(
    module: type[nn.Module], told: str, kept: str, tmp_path: Path
) -> None:
    events: list[Any] = []
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    made = narrow(module(), {"x": x}, tmp_path / "m.edge", "float16", on_event=events.append)
    plain, reached = (e for e in events if isinstance(e, deploy.Attempt) and "16" in e.route)
    assert (plain.route, plain.outcome) == ("float16", "wrong")
    assert plain.diagnosis is not None
    assert plain.diagnosis.problem.startswith(told)
    assert (reached.route, reached.outcome) == ("float16 in reach", "proved")
    (artefact,) = made.bundle.manifest.artefacts
    assert str(artefact.details["float32"]).startswith(kept)
    assert signal_db(made) > 50
    assert any(note.startswith("float16, emulated: with each value rounded") for note in made.notes)


class LoudSteps(nn.Module):
    """Values leave float16 within a loop, which puts them into a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.linear = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y, found = self.first(x), []
        for step in range(x.shape[1]):
            found.append(self.linear(y[:, step]) * 1e6 * 1e-6)
        return torch.stack(found, 1)


@pytest.mark.slow
def test_what_leaves_float16_in_a_loop_stays_in_float32(tmp_path: Path) -> None:
    events: list[Any] = []
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    made = narrow(
        LoudSteps(), {"x": x}, tmp_path / "m.edge", "float16",
        dimensions={"x": {0: "batch", 1: "time"}}, on_event=events.append,
    )  # fmt: skip  # one call
    tried = [(e.route, e.outcome) for e in events if isinstance(e, deploy.Attempt)]
    assert tried[-1] == ("float16 in reach", "proved")
    assert str(made.bundle.manifest.artefacts[0].details["float32"]).startswith("in 2 of ")
    assert signal_db(made) > 50


class MixedAnswers(nn.Module):
    """A second output in float16, and integers of which rounding changes some."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y: Tensor = self.linear(x)
        return y, y.half(), (4096 * y).int()


def test_the_signal_that_is_told_is_that_of_floats(tmp_path: Path) -> None:
    torch.manual_seed(0)
    loose = Thresholds(reduced={"float16": Reduced(min_snr_db=40, max_flips=1)})
    made = narrow(
        MixedAnswers(), {"x": torch.randn(2, 8)}, tmp_path / "m.edge", "float16", thresholds=loose
    )
    (told,) = [note for note in made.notes if note.startswith("float16, emulated: ")]
    assert re.search(r"the signal is at least [\d.]+ dB above the noise$", told)


def test_an_emulation_that_cannot_be_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(model: onnx.ModelProto, dtype: int) -> None:
        raise NotImplementedError("no such rounding")

    monkeypatch.setattr(narrowing, "round_each", refused)
    made = narrow(convolutions(), images(2, 3, 16, 16), tmp_path / "m.edge", "float16")
    assert (
        "float16 was proved on ONNX Runtime's CPU alone, which computes much of it in float32: "
        "with each value rounded it could not be run: NotImplementedError: no such rounding"
    ) in made.notes
    assert runtimes.verify(made.bundle).passed


def test_a_file_with_most_weights_in_float32_is_not_float16(tmp_path: Path) -> None:
    vanishing = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(6)))
    with torch.no_grad():
        for weight in vanishing.parameters():
            weight.mul_(1e-3)
    with pytest.raises(ParityError) as raised:
        narrow(
            vanishing, {"input": torch.randn(2, 8)}, tmp_path / "m.edge", "float16",
            dimensions={"input": {0: "batch"}},
        )  # fmt: skip  # one call
    assert (
        "float16 in reach  refused: 17% of its weights would be in float16, less than half: the "
        "others are those of nodes that stay in float32"
    ) in raised.value.problem


class Differs(nn.Module):
    """What is left of near values is below the last of eleven bits."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1000.0) - 1000.0


def test_what_float16_blurs_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="ONNX in float16: Differs is not proved") as raised:
        narrow(Differs(), {"x": torch.randn(2, 8)}, tmp_path / "m.edge", "float16")
    assert raised.value.remedy == (
        "rewrite what takes the difference of near values, or leaves 6e-8 to 65504: float16 has "
        "11 bits, or leave --precision out"
    )
    assert list(tmp_path.iterdir()) == []


class Decides(nn.Module):
    """Of near scores."""

    def __init__(self, *, scores: bool = False) -> None:
        super().__init__()
        weight = torch.randn(8, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(weight + 1e-5 * torch.arange(64).unsqueeze(1))
        self.scores = scores

    def forward(self, x: Tensor) -> Tensor:
        found = x @ self.weight.T
        return found if self.scores else found.argmax(1)


def test_a_decision_that_turns_in_float16_is_told_as_one(tmp_path: Path) -> None:
    example = {"x": torch.randn(7, 8, generator=torch.Generator().manual_seed(0))}
    with pytest.raises(ParityError, match=r"elements differ, 1 allowed") as raised:
        narrow(Decides(), example, tmp_path / "m.edge", "float16")
    assert raised.value.remedy == (
        "return the scores in place of what they decide, such as an argmax or a rounded number, "
        "and decide behind the artefact: near ones change places, and scores are judged by "
        "their noise, or leave --precision out"
    )
    narrow(Decides(scores=True), example, tmp_path / "m.edge", "float16")


def test_an_operator_without_float16_stays_in_float32(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.CELU(0.5), nn.Linear(8, 3))
    made = narrow(module, {"input": torch.randn(2, 8)}, tmp_path / "m.edge", "float16",
                  dimensions={"input": {0: "batch"}}, opset=18)  # fmt: skip  # one call
    (artefact,) = made.bundle.manifest.artefacts
    assert artefact.details["float32"] == "in 1 of 4 nodes"
    assert signal_db(made) > 50


class Counts(nn.Module):
    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        return torch.zeros_like(x).scatter_add(1, at, x.sin())


COUNTED = {"x": torch.ones(2, 8), "at": torch.zeros(2, 8, dtype=torch.int64)}


class CountsInBranches(nn.Module):
    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            return torch.zeros_like(x).scatter_add(1, at, x.sin())
        return torch.zeros_like(x).scatter_add(1, at, x.cos())


@pytest.mark.usually("Counts-1")
@pytest.mark.parametrize(("module", "sums"), [(Counts, 1), (CountsInBranches, 2)])
def test_what_is_added_by_scattering_stays_in_float32(
    module: Callable[[], nn.Module], sums: int, tmp_path: Path
) -> None:
    made = deploy.export(module(), COUNTED, tmp_path / "m.edge", precision="float16")
    (artefact,) = made.bundle.manifest.artefacts
    assert str(artefact.details["float32"]).startswith(f"in {sums} of ")
    assert signal_db(made) > 50


def test_an_engine_that_refuses_says_nothing_of_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wide_nodes, "_adds_what_it_scatters", lambda _: False)
    with pytest.raises(ParityError, match="ONNX Runtime failed") as raised:
        deploy.export(Counts(), COUNTED, tmp_path / "m.edge", precision="float16")
    assert raised.value.remedy == "leave --precision out"


class Heard(nn.Module):
    """A convolution, then attention to which a mask of -Inf is added."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, 16, 3)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        values = self.first(x).transpose(1, 2)
        hidden = values.sum(2) * 0 + torch.arange(values.shape[1]) > 3
        mask = torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)
        y: Tensor = self.encoder(values, src_key_padding_mask=mask)
        return y


@pytest.mark.slow
@pytest.mark.parametrize(("target", "way"), [(None, "static, "), ("tensorrt-10", "static, symm")])
def test_a_mask_behind_a_convolution_is_not_rounded(
    target: str | None, way: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    example = {"x": torch.randn(2, 4, 10)}
    made = narrow(Heard(), example, tmp_path / "m.edge", "int8", target=target)
    assert str(made.bundle.manifest.artefacts[0].details["quantization"]).startswith(way)
    assert signal_db(made) > 20


class Steps(nn.Module):
    """One cell, three times: its weights are those of three products."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(8, 32)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 32)
        for _ in range(3):
            h = self.cell(x, h)
        return h


def test_weights_of_several_products_are_held_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = narrow(Steps(), {"x": torch.randn(2, 8)}, tmp_path / "m.edge", "int8")
    assert made.bundle.manifest.artefacts[0].details["quantization"] == (
        "dynamic, 100% of the weights"
    )
    weights = onnx.load(made.bundle.path / "model.onnx").graph.initializer
    assert sorted(list(w.dims) for w in weights if len(w.dims) > 1) == [[8, 32], [32, 32]]


@pytest.mark.slow
def test_products_within_a_loop_are_rounded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, example = nn.RNN(8, 32, batch_first=True), {"input": torch.randn(2, 5, 8)}
    made = deploy.export(module, example, tmp_path / "m.edge", precision="int8")
    nodes = onnx.load(made.bundle.path / "model.onnx").graph.node
    (body,) = (node.attribute[0].g for node in nodes if node.op_type == "Loop")
    assert "MatMulInteger" in {node.op_type for node in body.node}


def test_weights_in_layers_have_one_scale(tmp_path: Path) -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 8, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    torch.manual_seed(0)
    made = narrow(Experts(), {"x": torch.randn(2, 3, 5, 8)}, tmp_path / "m.edge", "int8")
    assert signal_db(made) > 25


def test_nodes_are_in_order_whatever_the_converter_writes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    bags = {"input": torch.randint(0, 20, (12,)), "offsets": torch.tensor([0, 2, 5, 9])}
    module = nn.EmbeddingBag(20, 6, mode="sum")
    made = deploy.export(module, bags, tmp_path / "m.edge", precision="int8")
    assert signal_db(made) > 25


def test_what_has_no_int8_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    told = "0% of its weights would be in int8, less than half: those of GRU stay in float32"
    with pytest.raises(ContractError, match=told) as raised:
        deploy.export(
            nn.GRU(8, 16), {"input": torch.randn(5, 2, 8)}, tmp_path / "m.edge", precision="int8"
        )
    assert raised.value.remedy == "ask for --precision float16, or leave --precision out"


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gru = nn.Embedding(500, 8), nn.GRU(8, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gru(self.embed(x))[0]
        return y


def test_what_stays_in_float32_beside_int8_is_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = narrow(Words(), {"x": torch.randint(0, 500, (2, 5))}, tmp_path / "m.edge", "int8")
    assert made.bundle.manifest.artefacts[0].details["quantization"] == (
        "dynamic, 76% of the weights: those of GRU stay in float32"
    )


class Classes(nn.Module):
    """Tokens go in, classes come out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(50, 64), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        classes: Tensor = self.head(self.embed(x)).argmax(-1)
        return classes


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_integers_in_and_out_say_nothing_of_the_weights(
    precision: Precision, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    made = narrow(Classes(), {"x": torch.arange(50).reshape(5, 10)}, tmp_path / "m.edge", precision)
    (artefact,) = made.bundle.manifest.artefacts
    assert made.bundle.manifest.reduced_precision(artefact) == precision
    assert runtimes.verify(made.bundle).passed


def test_a_module_that_answers_in_float16_is_not_made_so(tmp_path: Path) -> None:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x)
            return y.half()

    told = "is for modules in float32, and this one computes in float16 and float32"
    with pytest.raises(UsageError, match=told):
        narrow(Halved(), images(2, 4), tmp_path / "m.edge", "float16")


def test_a_module_of_integers_has_no_narrower_precision(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    told = "--precision int8 is for modules in float32, and this one has integers alone"
    with pytest.raises(UsageError, match=told):
        narrow(Twice(), {"x": torch.arange(5)}, tmp_path / "m.edge", "int8")


def test_a_module_without_weights_has_no_int8(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="0% of its weights would be in int8") as raised:
        narrow(nn.Softmax(1), images(2, 8), tmp_path / "m.edge", "int8")
    assert raised.value.remedy == "ask for --precision float16, or leave --precision out"


@pytest.mark.parametrize(
    ("module", "options", "problem", "remedy"),
    [
        (
            nn.Linear(4, 2),
            {"precision": "int4"},
            "there is no --precision int4",
            "float16, bfloat16",
        ),
        (
            nn.Linear(4, 2),
            {"precision": "bfloat16"},
            "bfloat16 is for engines of TensorRT, and --format asks for none",
            "add one to --format: tensorrt or tensorrt-rtx; or ask for --precision float16",
        ),
        (
            nn.Linear(4, 2),
            {"precision": "int8", "formats": ["onnx", "pt2"]},
            "int8 is made in ONNX, and --format asks for pt2 too",
            "leave pt2 out of --format: a bundle without --precision may hold it",
        ),
        (
            nn.Linear(4, 2).double(),
            {"precision": "float16"},
            "--precision float16 is for modules in float32, and this one computes in float64",
            "give the module in float32",
        ),
        (
            nn.Linear(4, 2).bfloat16(),
            {"precision": "int8"},
            "--precision int8 is for modules in float32, and this one computes in bfloat16",
            "give the module in float32",
        ),
    ],
)
def test_what_cannot_be_asked(
    module: nn.Module, options: dict[str, Any], problem: str, remedy: str, tmp_path: Path
) -> None:
    dtype = next(module.parameters()).dtype
    with pytest.raises(UsageError, match=problem) as raised:
        deploy.export(module, {"x": torch.zeros(2, 4, dtype=dtype)}, tmp_path / "m.edge", **options)
    assert remedy in raised.value.remedy


def test_what_is_made_if_no_format_is_named() -> None:
    assert default_formats(None) == ("onnx", "torchscript", "pt2")
    assert default_formats("int8") == ("onnx",)


@pytest.mark.usually("[float16")
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_an_engine_is_built_from_the_narrower_file(precision: Precision, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    made = narrow(
        convolutions(), images(2, 3, 8, 8), tmp_path / "m.edge", precision, formats=["tensorrt-rtx"]
    )
    onnx_file, engine = made.bundle.manifest.artefacts
    assert (onnx_file.precision, engine.precision) == (precision, precision)
    assert engine.details.get("quantization") == onnx_file.details.get("quantization")
    assert f";{precision}".encode() in (made.bundle.path / "model.rtx").read_bytes()
    if precision == "int8":
        assert str(onnx_file.details["quantization"]).startswith("static, symmetric, ")


def narrow_engine(module: nn.Module, example: Any, output: Path, **options: Any) -> deploy.Export:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    return narrow(module, example, output, "bfloat16", formats=["tensorrt-rtx"], **options)


@pytest.mark.slow
def test_bfloat16_is_of_the_engine_alone(tmp_path: Path) -> None:
    events: list[Any] = []
    made = narrow_engine(
        convolutions(), images(2, 3, 8, 8), tmp_path / "m.edge", on_event=events.append
    )
    onnx_file, engine = made.bundle.manifest.artefacts
    assert (onnx_file.precision, engine.precision) == ("float32", "bfloat16")
    assert b";bfloat16" in (made.bundle.path / "model.rtx").read_bytes()
    attempts = [event for event in events if isinstance(event, deploy.Attempt)]
    assert [(each.route, each.outcome) for each in attempts] == [
        ("dynamo", "proved"), ("bfloat16", "proved"), ("build", "built"),
    ]  # fmt: skip  # a table
    (told,) = [note for note in made.notes if "rounded" in note]
    assert re.fullmatch(
        "bfloat16, emulated: with each value rounded on the CPU, in place of the engine, the "
        r"signal is at least [\d.]+ dB above the noise",
        told,
    )
    assert runtimes.verify(made.bundle, ["ort-cpu"]).passed
    files = {path.name for path in made.bundle.path.iterdir()}
    assert files == {"manifest.json", "model.onnx", "model.rtx", "golden.safetensors", "reports"}


def test_an_engine_in_bfloat16_computes_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT itself says so, asked for a GPU that has none."""
    older = EngineOptions(compute_capabilities=("7.5",))
    with pytest.raises(UsageError, match=r"compute capability 7\.5 have no bfloat16: it came w"):
        narrow_engine(convolutions(), images(2, 3, 8, 8), tmp_path / "m.edge", engine=older)
    monkeypatch.setattr("edgeport.deploy.request._check_bfloat16", lambda _: None)
    with pytest.raises(ExportError, match="the model contains HW-specific datatypes: b16"):
        narrow_engine(convolutions(), images(2, 3, 8, 8), tmp_path / "m.edge", engine=older)


def test_what_has_no_bfloat16_stays_in_float32(tmp_path: Path) -> None:
    """TensorRT-RTX has none of the first three."""
    turned, last = nn.ConvTranspose1d(4, 8, 2, stride=2), nn.Conv1d(8, 2, 3)
    wider = nn.Sequential(turned, nn.Mish(), nn.Hardswish(), last)
    made = narrow_engine(wider, {"x": torch.randn(2, 4, 6)}, tmp_path / "m.edge")
    assert made.bundle.artefact("tensorrt-rtx").details["float32"] == "in 3 of 4 nodes"


@pytest.mark.slow
def test_a_gru_in_bfloat16_goes_into_an_engine(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, example = nn.GRU(4, 8, batch_first=True), {"input": torch.randn(2, 5, 4)}
    free = {"input": {0: "batch", 1: "time"}}
    made = narrow_engine(module, example, tmp_path / "m.edge", dimensions=free)
    assert made.bundle.artefact("tensorrt-rtx").precision == "bfloat16"


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 8, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        time = x.shape[1]
        held = lengths.clamp(max=time)
        packed = pack_padded_sequence(x, held, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=time)
        return y


@pytest.mark.slow
def test_a_layer_over_packed_sequences_is_in_bfloat16(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = {"x": torch.randn(3, 5, 4), "lengths": torch.tensor([5, 2, 3])}
    free = {"x": {0: "batch", 1: "time"}, "lengths": {0: "batch"}}
    made = narrow_engine(Packed(), example, tmp_path / "m.edge", dimensions=free)
    engine = made.bundle.artefact("tensorrt-rtx")
    assert (engine.precision, "float32" in engine.details) == ("bfloat16", False)


def test_labels_and_searches_ask_what_rounds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    events: list[Any] = []
    module = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 3))
    rows = np.random.default_rng(0).normal(size=(96, 16)).astype(np.float32)
    answers = module(torch.tensor(rows)).detach()
    made = narrow_engine(
        module, {"x": rows[:2]}, tmp_path / "m.edge", samples=[{"x": rows}],
        labels=(answers + 0.1 * torch.randn(answers.shape)).numpy(),
        search_s=1.0, on_event=events.append,
    )  # fmt: skip  # one call
    apart = {score.backend: abs(score.artefact / score.module - 1) for score in made.scores}
    assert apart["ort-cpu"] < 1e-6  # it computes in float32
    assert 1e-5 < apart["bfloat16, emulated"] < 1e-2
    searched = {each.backend: each.unit for each in events if isinstance(each, deploy.Searched)}
    assert searched == {"ort-cpu": "floors", "bfloat16, emulated": "dB"}
    assert runtimes.verify(made.bundle, ["ort-cpu"]).passed


class Near(nn.Module):
    """What it waits for is beyond 8 bits of mantissa."""

    def forward(self, x: Tensor) -> Tensor:
        target = x.abs() + 0.1
        root = torch.ones_like(target)
        while (root * root - target).abs().max() > 1e-5:
            root = 0.5 * (root + target / root)
        return root


@pytest.mark.slow
def test_a_loop_that_may_have_no_end_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeport.deploy.precision._PATIENCE_S", 3.0)
    monkeypatch.setattr("edgeport.deploy.precision.PATIENCE_TIMES", 0)
    module = nn.Sequential(nn.Linear(4, 4), Near())
    with pytest.raises(ExportError, match="no end in bfloat16: node_while_loop") as e:
        narrow_engine(module, {"x": torch.rand(2, 4)}, tmp_path / "m.edge")
    assert "while (root * root - target).abs().max() > 1e-5:" in e.value.problem
    assert e.value.remedy.startswith("end the loop after a number of steps too, or ")


class Far(nn.Module):
    """What it tells apart is beyond 8 bits of mantissa."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1000.0) - 1000.0


def test_bfloat16_that_loses_the_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ParityError, match=r"rounded to bfloat16: Far is not proved.* dB, at l"
    ) as e:
        narrow_engine(Far(), {"x": torch.rand(2, 8)}, tmp_path / "m.edge")
    assert e.value.remedy.startswith("train the module in bfloat16, whose values have 8 bits")
    assert not (tmp_path / "m.edge").exists()


def test_a_module_that_computes_in_float16_in_places_has_no_bfloat16(tmp_path: Path) -> None:
    class Mixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.half().float() * 2

    with pytest.raises(ContractError, match="computes in float16 in places, for which"):
        narrow_engine(Mixed(), {"x": torch.rand(2, 8)}, tmp_path / "m.edge")


class Turned(nn.Module):
    """ONNX Runtime 1.31 crashes on its product in float16; a mask of -Inf is added."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.abs().sum(2) < 10
        y: Tensor = self.encoder(x, src_key_padding_mask=hidden & ~hidden.all(1, keepdim=True))
        return y


@pytest.mark.slow
def test_a_product_that_crashes_in_float16_stays_in_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = narrow(Turned(), {"x": torch.randn(2, 5, 16)}, tmp_path / "m.edge", "float16")
    (artefact,) = made.bundle.manifest.artefacts
    assert str(artefact.details.get("float32", "in 2 of ")).startswith("in 2 of ")
    assert signal_db(made) > 40


@pytest.mark.slow
def test_a_target_of_tensorrt_gets_what_it_reads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = {"x": torch.randn(2, 5, 16)}
    made = narrow(Turned(), example, tmp_path / "m.edge", "int8", target="tensorrt-10")
    model = onnx.load(made.bundle.path / "model.onnx")
    assert "QuantizeLinear" in operators(made)
    assert not {"DynamicQuantizeLinear", "MatMulInteger"} & operators(made)
    assert [entry.domain for entry in model.opset_import] == [""]


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_disk_that_is_too_small_is_told(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(StorageError, match=r"narrower takes [\d,]+ bytes .* 10 are free"):
        narrow(nn.Linear(64, 64), images(2, 64), tmp_path / "m.edge", precision)
    assert list(tmp_path.iterdir()) == []


def test_labels_decide_about_int8_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 3))
    rows = np.random.default_rng(0).normal(size=(96, 16)).astype(np.float32)
    labels = module(torch.tensor(rows)).argmax(1).numpy()
    made = narrow(
        module, {"x": rows[:2]}, tmp_path / "m.edge", "int8", samples=[{"x": rows}], labels=labels
    )
    (score,) = made.scores
    assert (score.rows, score.module) == (96, 1.0)
    assert score.artefact > 0.9


class Tells(nn.Module):
    """A weight is an answer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.tensor([1.1, 3.3]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * self.centres, self.centres


@pytest.mark.usually("[float16")
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_weight_that_is_an_output(precision: Precision, tmp_path: Path) -> None:
    make = narrow_engine if precision == "bfloat16" else partial(narrow, precision=precision)
    constant = Thresholds(constant_outputs=("output_1",))
    made = make(Tells(), {"x": torch.rand(2, 2)}, tmp_path / "m.edge", thresholds=constant)
    assert made.bundle.manifest.artefacts[-1].precision == precision


@pytest.mark.slow
def test_large_weights_in_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeport.deploy.compilers.onnx_files.onnx_graph.LARGEST_FILE_BYTES", 0)
    made = narrow_engine(convolutions(), images(2, 3, 8, 8), tmp_path / "m.edge")
    (file,) = made.bundle.artefact("ort-cpu").external
    assert file.file == "model.onnx.data"
    assert made.bundle.artefact("tensorrt-rtx").precision == "bfloat16"


@pytest.mark.usually("convolutions")
@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("make", [convolutions, Tagger])
def test_weights_in_a_file_of_their_own(
    make: Callable[[], nn.Module],
    precision: Precision,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As those beyond 2 GiB are."""
    monkeypatch.setattr("edgeport.deploy.compilers.onnx_files.onnx_graph.LARGEST_FILE_BYTES", 0)
    torch.manual_seed(0)
    example = images(2, 3, 8, 8) if make is convolutions else {"x": torch.randn(2, 5, 8)}
    made = narrow(make(), example, tmp_path / "m.edge", precision)
    (artefact,) = made.bundle.manifest.artefacts
    assert [file.file for file in artefact.external] == ["model.onnx.data"]
    assert signal_db(made) > 20
    files = {str(path.relative_to(made.bundle.path)) for path in made.bundle.path.rglob("*.*")}
    assert files == {
        "manifest.json", "model.onnx", "model.onnx.data", "golden.safetensors",
        "reports/parity.json",
    }  # fmt: skip  # one line


class Boxes(nn.Module):
    """Pixels and scores in one output, as detectors have them; or a temperature in Kelvin."""

    def __init__(self, joined: bool, whole: float = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(1, 4, 5, padding=2)
        self.head = nn.Linear(4, 4)
        self.joined, self.whole = joined, whole

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.conv(x[:, None]).relu().mean(-1)) + self.whole
        if not self.joined:
            return y
        return torch.cat([640 * y[:, :2].sigmoid(), y[:, 2:].sigmoid()], 1)


def waves(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, 32, generator=generator) * torch.rand(rows, 1, generator=generator) * 3


@pytest.mark.parametrize(
    ("module", "target"),
    [
        (Boxes(joined=True), None),
        (Boxes(joined=False, whole=293), None),
        (Boxes(joined=True), "tensorrt-10"),
    ],
)
def test_what_stands_beside_larger_values_is_not_lost(
    module: nn.Module, target: str | None, tmp_path: Path
) -> None:
    """All of a range was for pixels, or for 293: 50 dB, and nothing of the scores."""
    options: Any = {"samples": [{"x": waves(64)}], "target": target}
    made = narrow(module, {"x": waves(2)}, tmp_path / "m.edge", "int8", **options)
    x = waves(40)
    with torch.no_grad(), runtimes.open(made.bundle.path) as session:
        error = session.run({"x": x.numpy()})["output"] - module(x).numpy()
        change = module(x).numpy()
    assert np.all(error.std(0) < 0.5 * change.std(0))  # of each column; nothing is left at 1


class Units(nn.Module):
    """One layer for what is of two sizes: no way keeps the small one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(1, 2, 5, padding=2)
        with torch.no_grad():
            self.conv.weight[0] *= 3000

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x[:, None])
        return y


class Few(Units):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, 1] + 9000


def test_parts_that_no_way_keeps_are_told(tmp_path: Path) -> None:
    options: Any = {"samples": [{"x": waves(64)}]}
    made = narrow(Units(), {"x": waves(2)}, tmp_path / "m.edge", "int8", **options)
    told = "int8: nothing is left of what changes from input to input in 1 of the 2 parts of output"
    assert [note for note in made.notes if note.startswith(told)]
    assert made.bundle.manifest.notes[0].startswith(told)
    assert runtimes.verify(made.bundle).passed


def test_edge_cases_that_are_far_off_are_told(tmp_path: Path) -> None:
    """int8 owes them nothing but structure, and the table of a proof is without them."""
    made = narrow(Boxes(joined=False), {"x": waves(2)}, tmp_path / "m.edge", "int8")
    (backend,) = made.report.backends
    told = {v.sample for v in backend.verdicts if v.kind == "edge" and v.figures.snr_db < 20}
    (note,) = (each for each in made.notes if each.startswith("int8: edge cases owe no signal; "))
    assert note.partition(" on ")[2].split(", ") == [
        sample for sample, _ in made.bundle.manifest.samples if sample in told
    ]
    assert note in made.bundle.manifest.notes


def test_an_output_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    example, output = {"x": waves(2)}, tmp_path / "m.edge"
    with pytest.raises(ParityError, match="output is no nearer to the module's than its") as e:
        narrow(Few(), example, output, "int8", samples=[{"x": waves(64)}])
    assert e.value.remedy.startswith(
        "give --samples in which it changes more, or allow it with --constant-output output, or "
        "return what changes alone, what is of another size by a layer of its own, and add or join"
    )
    allowed = Thresholds(constant_outputs=("output",))
    options: Any = {"samples": [{"x": waves(64)}], "thresholds": allowed}
    narrow(Few(), example, tmp_path / "allowed.edge", "int8", **options)
    made = narrow(Few(), example, output, "int8")  # drawn inputs may be too much alike
    assert any("on drawn inputs: give --samples" in note for note in made.notes)
