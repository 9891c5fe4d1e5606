import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import zipped

from edgeport.runtimes import FormatError
from edgeport.runtimes.safety import torch_limits
from edgeport.runtimes.safety.model_file import check_model
from edgeport.runtimes.safety.torch_limits import check_pt2, check_torchscript


def run(check: Any, data: bytes) -> None:
    check(io.BytesIO(data), len(data))


class Text(torch.nn.Module):
    """Its scripted code has strings, loops, and an attribute that is named like an operator."""

    def __init__(self) -> None:
        super().__init__()
        self.save = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.save):
            x = torch.relu(x) * 2
        assert x.sum() >= 0, "please save it, ops"
        return x


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_what_torch_writes_passes(tmp_path: Path) -> None:
    made = io.BytesIO()
    torch.jit.save(torch.jit.script(Text()), made)
    run(check_torchscript, made.getvalue())
    program = torch.export.export(
        torch.nn.Linear(3, 2), (torch.zeros(4, 3),), dynamic_shapes=({0: torch.export.Dim("b")},)
    )
    program._example_inputs = None  # as edgeport does
    torch.export.save(program, tmp_path / "m.pt2")
    run(check_pt2, (tmp_path / "m.pt2").read_bytes())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("torch.save(x, 'f')", "calls 'save', which touches files"),
        ("torch  .\n  save(x, 'f')", "calls 'save', which touches files"),
        ("torch.\\\nsave(x, 'f')", "calls 'save', which touches files"),
        ("f = torch.save", "calls 'save', which touches files"),
        ("ops.aten.from_file('f')", "calls 'from_file', which touches files"),
        ("self = torch\nself.save(x)", "calls 'save', which touches files"),
        ("ops.debugprims.load_tensor('f')", "calls 'load_tensor', which touches files"),
        ("ops.inductor.x()", "calls operators of 'inductor', which edgeport never does"),
        ("ops . profiler . x()", "calls operators of 'profiler', which edgeport never does"),
        ("o = ops\no.inductor.x()", "hides which operators it calls"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_code_that_touches_files(code: str, message: str, method: int) -> None:
    data = zipped({"m/data.pkl": b"", "m/code/__torch__.py": code.encode()}, method)
    with pytest.raises(ValueError, match=message):
        run(check_torchscript, data)


@pytest.mark.parametrize(
    "code", ["y = self.save", "torch.relu(x)", "ops.prim.device(x)", "ops.torchvision.nms(x)"]
)
def test_code_that_does_not(code: str) -> None:
    run(check_torchscript, zipped({"m/code/__torch__.py": code.encode()}))


MODEL = {
    "nodes": [{"target": "torch.ops.aten.relu.default", "inputs": []}],
    "sizes": [{"as_expr": {"expr_str": "Symbol('s21', positive=True, integer=True)"}}],
}


def program(**change: Any) -> dict[str, bytes]:
    return {
        "m/models/model.json": json.dumps({**MODEL, **change}).encode(),
        "m/data/sample_inputs/model.pt": b"",
        "m/data/weights/model_weights_config.json": b'{"config": {"w": {"use_pickle": false}}}',
        "m/data/weights/weight_0": b"1234",
        "m/byteorder": b"little",
    }


def expression(text: object) -> dict[str, Any]:
    return {"sizes": [{"as_expr": {"expr_str": text}}]}


def test_a_program_passes() -> None:
    run(check_pt2, zipped(program()))
    for text in (
        "Mul(Integer(-4), Symbol('s41', positive=True, integer=True))",
        "Max(1, s0 + 2*u1) // 3",
        "FloorDiv(Symbol('u0', integer=True), Integer(2))",
        "TruncToInt(Mul(Float('1.5', precision=53), ToFloat(Symbol('s54'))))",
        "StrictLessThan(Symbol('u0', integer=True), Integer(9223372036854775807))",
    ):
        run(check_pt2, zipped(program(**expression(text))))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "exec('x')",
        "().__class__.__base__",
        "Symbol('a b')",
        "Float('1.real')",
        "Float('x.1')",
        "Symbol('x').func",
        "Lambda(x, x)",
        "lambda: 0",
        "S('x')",
        "[x for x in y]",
        "1" * 41 + "x",
        7,
        None,
    ],
)
def test_an_expression_that_torch_would_evaluate(text: object) -> None:
    with pytest.raises(ValueError, match=r"has the size .* which torch would evaluate"):
        run(check_pt2, zipped(program(**expression(text))))


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save",
        "torch.ops.inductor.x",
        "_operator.methodcaller",
        "math.__loader__.load_module",
        "#evil",
        "",
    ],
)
def test_a_call_that_is_no_operator(target: str) -> None:
    with pytest.raises(ValueError, match=r"calls .*, which is no operator of a model"):
        run(check_pt2, zipped(program(nodes=[{"target": target}])))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m/data/sample_inputs/model.pt", b"x", "it holds sample inputs, which torch would unpick"),
        ("m/data/weights/model_weights_config.json", b'{"use_pickle": true}', "asks for pickle"),
        ("m/data/weights/model_weights_config.json", b'{"use_pickle": 1}', "asks for pickle"),
        ("m/data/constants/custom_obj_0", b"", "holds .*custom_obj_0', which edgeport does not w"),
        ("m/data/aotinductor/model/a.so", b"", "which edgeport does not write"),
        ("m/models/other.json", b"{}", "which edgeport does not write"),
        ("other/models/model.json", b"{}", "its members are not in one folder"),
        ("m/../x", b"", "its members are not in one folder"),
        ("m/models/model.json", b"[" * 100_000, "nests too deeply"),
        ("m/models/model.json", b"{", "Expecting property name"),
        ("m/models/model.json", b"\xff", "can't decode byte"),
    ],
)
def test_what_a_program_must_not_hold(name: str, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(check_pt2, zipped({**program(), name: data}))


def test_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    data = zipped({"m/code/a.py": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(torch_limits, "LARGEST_TEXT_BYTES", 10**5)
    with pytest.raises(ValueError, match=r"'m/code/a\.py' has 1000000 bytes, which is too"):
        run(check_torchscript, data)


def test_descriptions_of_a_program_that_are_larger_than_the_file() -> None:
    members = program()
    members["m/models/model.json"] = b"[" + b"[]," * 100_000 + b"[]]"
    run(check_pt2, zipped(members))
    with pytest.raises(ValueError, match="compressed or share bytes, which torch never does"):
        run(check_pt2, zipped(members, zipfile.ZIP_DEFLATED))


def test_a_size_that_lies() -> None:
    data = bytearray(zipped({"m/code/a.py": bytes(5000)}, zipfile.ZIP_DEFLATED))
    entry = data.index(b"PK\1\2")
    data[entry + 24 : entry + 28] = (4000).to_bytes(4, "little")
    with pytest.raises(ValueError, match=r"'m/code/a\.py' does not have the size that it says"):
        run(check_torchscript, bytes(data))


def test_a_file_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(b"no archive")
    with pytest.raises(FormatError, match=r"^m\.ts is not safe to open: .*\n  fix: don't use this"):
        check_model(tmp_path / "copy", "torchscript", ["m.ts"], "m.ts")
