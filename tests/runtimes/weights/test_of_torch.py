"""Archives that torch wrote, read without it; the truth is the module's own state."""

import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hostile_pickles import BAD_KEYS, DOUBLING, HEAD, archive, keyed, many, nested, one, text, view
from torch import nn

from edgeport.runtimes.weights.of_artefact import Weight
from edgeport.runtimes.weights.of_torch import pt2_weights, torchscript_weights


class Everything(nn.Module):
    """Weights of many kinds, laid out in many ways."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        convolution = nn.Conv2d(2, 2, 3)
        last = convolution.weight.data.contiguous(memory_format=torch.channels_last)
        convolution.weight.data = last
        self.convolutions = nn.ModuleList([convolution])
        self.narrow = nn.Parameter(torch.rand(2, 2).bfloat16())
        self.register_buffer("transposed", torch.randn(4, 5).t())
        self.register_buffer("repeated", torch.ones(1).expand(1000))
        self.register_buffer("part", torch.arange(10)[2:7:2])
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("scalar", torch.tensor(True))
        self.register_buffer("complex", torch.ones(2, dtype=torch.complex64))
        self.tied = nn.Linear(3, 4)
        self.tied.weight = self.linear.weight
        self.list = [torch.zeros(2), torch.ones(2)]
        self.table = {"a": torch.full((2,), 3.0)}
        self.text = "hé"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.norm(self.linear(x) + self.tied(x))
        return answer


def saved(module: torch.jit.ScriptModule) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")
        torch.jit.save(module, file)
    return file.getvalue()


def scripted(module: nn.Module, *, frozen: bool = False) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")
        made = torch.jit.script(module.eval())
        found: torch.jit.ScriptModule = torch.jit.freeze(made) if frozen else made
    return found


def torchscript(data: bytes) -> dict[str, Weight]:
    return torchscript_weights(io.BytesIO(data), len(data))


def pt2(data: bytes) -> dict[str, Weight]:
    return pt2_weights(io.BytesIO(data), len(data))


def check(weight: Weight, tensor: torch.Tensor) -> None:
    assert weight.shape == tuple(tensor.shape)
    assert weight.dtype == str(tensor.dtype).removeprefix("torch.")
    if tensor.is_complex():
        assert weight.data == tensor.numpy().tobytes()
    else:
        np.testing.assert_array_equal(weight.values(), tensor.double().numpy(), strict=True)


def test_every_weight_of_a_script() -> None:
    module = Everything()
    found = torchscript(saved(scripted(module)))
    for name, tensor in module.state_dict().items():
        check(found[name], tensor)
    check(found["list.1"], torch.ones(2))
    check(found["table.a"], torch.full((2,), 3.0))
    assert set(found) == {*module.state_dict(), "list.0", "list.1", "table.a"}


def test_a_frozen_script_has_places() -> None:
    module = nn.Linear(3, 4)
    found = torchscript(saved(scripted(module, frozen=True)))
    assert set(found) == {"constants.0", "constants.1"}
    shapes = {weight.shape: weight for weight in found.values()}
    check(shapes[4, 3], module.weight.detach())
    check(shapes[4,], module.bias.detach())


@pytest.fixture(scope="module")
def program() -> tuple[nn.Module, bytes]:
    class Tensors(nn.Module):
        transposed: torch.Tensor
        kept: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 4)
            self.narrow = nn.Parameter(torch.rand(4).bfloat16())
            self.register_buffer("transposed", torch.randn(4, 5).t())
            self.register_buffer("kept", torch.randn(2), persistent=False)
            self.constant = torch.ones(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            other = self.transposed.sum() + self.kept.sum() + self.constant.sum()
            answer: torch.Tensor = self.linear(x) * self.narrow.float() + other
            return answer

    module, file = Tensors().eval(), io.BytesIO()
    with warnings.catch_warnings():  # of the part of a storage that nobody names
        warnings.filterwarnings("ignore", "No complete tensor found in the group")
        torch.export.save(torch.export.export(module, (torch.ones(2, 3),)), file)
    return module, file.getvalue()


def test_every_weight_of_a_program(program: tuple[nn.Module, bytes]) -> None:
    module, data = program
    found = pt2(data)
    expected = {**module.state_dict(), "kept": module.kept, "constant": module.constant}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        check(found[name], tensor)


def changed(data: bytes, end: str, change: Callable[[bytes], bytes]) -> bytes:
    """The archive with one member changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith(end) else content)
    return made.getvalue()


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        value = json.loads(content)
        change(value["config"]["linear.weight"])
        return json.dumps(value).encode()

    return edit


CONFIG = "model_weights_config.json"


@pytest.mark.parametrize(
    ("end", "change", "problem"),
    [
        (CONFIG, lambda _: b"{", "Expecting"),
        (CONFIG, lambda _: b"[]", "it has no 'config'"),
        (CONFIG, lambda _: b"[" * 100_000, "nests too deeply"),
        (CONFIG, edited(lambda w: w.update(use_pickle=True)), "'linear.weight' is a pickle"),
        (CONFIG, edited(lambda w: w.update(path_name="../x")), "it has no 'data/weights/../x'"),
        (CONFIG, edited(lambda w: w.update(tensor_meta=3)), "it has no 'tensor_meta'"),
        (
            CONFIG,
            edited(lambda w: w["tensor_meta"].update(dtype=99)),
            "'linear.weight' has the dtype 99",
        ),
        (
            CONFIG,
            edited(lambda w: w["tensor_meta"].update(dtype=[1])),
            r"'linear.weight' has the dtype \[1\]",
        ),
        (CONFIG, edited(lambda w: w["tensor_meta"].update(dtype=True)), "has the dtype True"),
        (CONFIG, edited(lambda w: w.update(path_name=[1])), "a storage has no name"),
        (CONFIG, edited(lambda w: w.update(path_name="x" * 1001)), "a storage has no name"),
        (
            CONFIG,
            lambda _: json.dumps({"config": {"x" * 1001: {}}}).encode(),
            "a tensor has a name of 1001 characters",
        ),
        (
            CONFIG,
            edited(
                lambda w: w["tensor_meta"].update(
                    sizes=[{"as_int": 1}], strides=[{"as_int": 2**70}]
                )
            ),
            r"a tensor has shape \(1,\), strides \(1180591620717411303424,\) and offset 0",
        ),
        (
            CONFIG,
            edited(lambda w: w["tensor_meta"].update(storage_offset={"as_int": 2**62})),
            "does not fit into",
        ),
        (
            CONFIG,
            edited(lambda w: w["tensor_meta"].update(sizes=[{"as_int": 9**99}] * 100_000)),
            "a tensor has 100000 axes, at most 64 are expected",
        ),
        (
            CONFIG,
            edited(lambda w: w["tensor_meta"].update(sizes=[{"as_int": 9**9}, {"as_int": 3}])),
            "does not fit into",
        ),
        (
            CONFIG,
            edited(lambda w: w["tensor_meta"].update(sizes=[{"as_expr": "s0"}, 3])),
            "the sizes of 'linear.weight' are no numbers",
        ),
        (
            CONFIG,
            edited(
                lambda w: w["tensor_meta"].update(
                    sizes=[{"as_int": 10**12}, {"as_int": 3}],
                    strides=[{"as_int": 0}, {"as_int": 1}],
                )
            ),
            "does not fit into",
        ),
        ("byteorder", lambda _: b"big", "its bytes are in 'big' order"),
        ("weight_0", lambda data: data[:-1], "does not fit into"),
    ],
)
def test_a_program_that_is_damaged(
    program: tuple[nn.Module, bytes], end: str, change: Callable[[bytes], bytes], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        pt2(changed(program[1], end, change))


def test_a_script_that_is_damaged() -> None:
    data = saved(scripted(nn.Linear(3, 4)))
    for change, problem in (
        (
            lambda content: content.replace(b"FloatStorage", b"PipeStorage_"),
            "is stored as torch doe",
        ),
        (lambda content: content[:-1], "a pickle in it"),
        (lambda content: content.replace(b"storage", b"garbage"), "another kind of storage"),
        (lambda content: b"\x80\x02]q\x00h\x00a.", "nest too deeply, or are too many"),
    ):
        with pytest.raises(ValueError, match=problem):
            torchscript(changed(data, "data.pkl", change))


def test_a_thousand_laughs_end() -> None:
    laughs = b"\x80\x02]q\x00" + b"".join(
        b"](" + b"h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(60)
    )
    data = saved(scripted(nn.Linear(3, 4)))
    with pytest.raises(ValueError, match="nest too deeply, or are too many"):
        torchscript(changed(data, "data.pkl", lambda _: laughs + b"."))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (one((1,), (2**70,)), r"has shape \(1,\), strides \(1180591620717411303424,\) and offset"),
        (one((0, 2**63), (1, 1)), "a tensor has shape"),
        (one((1,), (1,), offset=2**62), r"of shape \(1,\) does not fit into 64 bytes"),
        (one((9**99,) * 1000, (1,)), "a tensor has 1000 axes, at most 64 are expected"),
        (one((1,), (1,), file=DOUBLING), "'w' is stored as torch does not write it: a storage has"),
        (one((1,), (1,), file=text("0" * 1001)), "a storage has no name"),
        (archive(nested("k" * 900, 2)), "the paths of its attributes are too long"),
        (many([view((2**24 - n,), (0,)) for n in range(60)]), "does not fit into 64 bytes"),
        (many([view((1,), (1,))], bytes(2**24)), "has 16777216 bytes, which is too many"),
        (archive(HEAD + bytes(2**24)), "data.pkl' has 16777218 bytes, which is too many"),
        *((archive(keyed(key)), "a key is no text and no number") for key in BAD_KEYS.values()),
    ],
)
def test_a_script_of_an_attacker(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as told:
        torchscript(data)
    assert len(str(told.value)) < 500


def test_a_stride_along_one_element_says_nothing() -> None:
    found = torchscript(one((1, 4), (2**60, 1)))
    assert found == {"w": Weight("w", "float32", (1, 4), bytes(16))}


def test_a_shape_without_elements_has_any_size() -> None:
    (weight,) = torchscript(one((0, 2**62), (1, 1))).values()
    assert (weight.data, weight.values()) == (b"", None)


def test_equal_tensors_are_kept_once() -> None:
    storage = random.Random(0).randbytes(2**22)
    found = torchscript(many([view((2**20,), (1,))] * 50, storage))
    assert len(found) == 50
    assert len({id(weight.data) for weight in found.values()}) == 1


@pytest.mark.parametrize(("length", "times"), [(2**20, 150), (1, 2**16)])
def test_tensors_that_are_read_too_often(length: int, times: int) -> None:
    storage = random.Random(0).randbytes(4 * length)
    again = view((length,), (1,)) + b"q\x00" + b"h\x00" * times
    with pytest.raises(ValueError, match="its tensors are many times larger than it"):
        torchscript(many([again], storage))


@pytest.mark.parametrize("kind", ["script", "program"])
def test_noise_raises_nothing_else(kind: str, program: tuple[nn.Module, bytes]) -> None:
    data = program[1] if kind == "program" else saved(scripted(Everything()))
    read = pt2 if kind == "program" else torchscript
    generator = random.Random(0)
    outcomes = set()
    for _ in range(300):
        bad = bytearray(data)
        for _ in range(generator.randrange(1, 4)):
            bad[generator.randrange(len(bad))] ^= 1 << generator.randrange(8)
        try:
            read(bytes(bad))
            outcomes.add("read")
        except ValueError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
