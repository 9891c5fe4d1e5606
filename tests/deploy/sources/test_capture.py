import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeport.deploy.sources.capture import MOST_CALLS, Captured, capture, run_script
from edgeport.runtimes import MissingFileError, SourceError


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class Batch:
    tokens: Tensor
    scale: float


class Scale(nn.Module):
    """Writes into its input."""

    def forward(self, x: Tensor, *, by: float = 2.0) -> Tensor:
        return x.mul_(by)


class Anything(nn.Module):
    def forward(self, *args: object, **kwargs: object) -> None:
        pass


def shapes(captured: Captured) -> list[list[int]]:
    return [list(call.args[0].shape) for call in captured.calls]


def test_arguments_are_copied_before_the_module_writes_into_them() -> None:
    module = Scale()
    module.register_forward_pre_hook(lambda _, args: args[0].fill_(7))
    x = torch.ones(3, requires_grad=True) * 1
    with capture(module) as captured:
        module(x, by=5.0)
    (call,) = captured.calls
    assert captured.module is module
    assert call.args[0].tolist() == [1, 1, 1]
    assert not call.args[0].requires_grad
    assert call.kwargs == {"by": 5.0}
    assert x.tolist() == [35, 35, 35]


def test_nested_arguments_keep_their_structure() -> None:
    module, x = Anything(), torch.zeros(2)
    with capture(module) as captured:
        module(Pair(x, x), [x, (x, None)], batch={"b": Batch(x, 0.5)}, flag=True)
    x += 1
    (call,) = captured.calls
    pair, listed = call.args
    assert isinstance(pair, Pair)
    assert isinstance(listed, list)
    assert listed[1][1] is None
    batch = call.kwargs["batch"]["b"]
    assert isinstance(batch, Batch)
    assert batch.scale == 0.5
    assert call.kwargs["flag"] is True
    for tensor in (*pair, listed[0], listed[1][0], batch.tokens):
        assert tensor.tolist() == [0, 0]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_copies_are_plain_tensors_in_any_mode(mode: Callable[[], Any]) -> None:
    module = nn.Linear(4, 2)
    with mode(), capture(module) as captured:
        module(torch.ones(3, 4).T.contiguous().T)
    tensor = captured.calls[0].args[0]
    assert not tensor.is_inference()
    assert not tensor.requires_grad
    module(tensor).sum().backward()
    assert module.weight.grad is not None


def compiled(module: nn.Module) -> nn.Module:
    wrapper = torch.compile(module, backend="eager")
    assert isinstance(wrapper, nn.Module)
    return wrapper


def compiled_in_place(module: nn.Module) -> nn.Module:
    module.compile(backend="eager")
    return module


@pytest.mark.parametrize("wrap", [compiled, compiled_in_place, nn.DataParallel])
@pytest.mark.parametrize("warm", [False, True])
def test_wrapped_modules(wrap: Callable[[nn.Module], nn.Module], warm: bool) -> None:
    module = wrap(nn.Linear(4, 2))
    if warm:
        module(torch.ones(2, 4))
    with capture(module) as captured:
        for rows in (2, 3, 3):
            module(torch.ones(rows, 4))
    compiled_call = module._compiled_call_impl
    assert (compiled_call is not None) == (wrap is compiled_in_place)
    module(torch.ones(5, 4))
    assert shapes(captured) == [[2, 4], [3, 4], [3, 4]]
    assert captured.module is module


def test_the_hook_is_removed_though_the_code_raises() -> None:
    module, found = nn.Linear(4, 2), []

    def code() -> None:
        with capture(module) as captured:
            found.append(captured)
            module(torch.ones(2, 5))

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        code()
    assert not module._forward_pre_hooks
    assert not module._forward_pre_hooks_with_kwargs
    assert shapes(found[0]) == [[2, 5]]


def test_a_copy_of_the_module_is_another_module() -> None:
    module = nn.Linear(4, 2)
    with capture(module) as captured:
        module(torch.ones(2, 4))
        copy.deepcopy(module)(torch.ones(3, 4))
    assert shapes(captured) == [[2, 4]]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_new_shapes_are_kept_first(rows: list[int]) -> None:
    module = Anything()
    with capture(module) as captured:
        for number, size in enumerate(rows):
            module(torch.full((size,), number))
    numbers = [int(call.args[0][0]) for call in captured.calls]
    firsts = [number for number, size in enumerate(rows) if size not in rows[:number]]
    others = [number for number in range(len(rows)) if number not in firsts]
    room = max(0, MOST_CALLS - len(firsts))
    assert captured.count == len(rows)
    assert len(numbers) == min(len(rows), MOST_CALLS)
    assert numbers == sorted([*firsts[:MOST_CALLS], *others[:room]])


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["edgeport.deploy.sources.capture"], "MOST_BYTES", 100)
    module = Anything()
    with capture(module) as captured:
        for rows in (40, 40, 60, 41, 101):
            module(torch.zeros(rows, dtype=torch.uint8))
    assert shapes(captured) == [[40], [60]]  # the second 40 made room for what is new
    assert captured.count == 5
    with capture(module) as captured:
        module(torch.zeros(101, dtype=torch.uint8))
    with pytest.raises(SourceError, match=r"each call of Anything has more than 100 bytes"):
        _ = captured.calls


def test_a_module_that_is_not_called() -> None:
    module = nn.Linear(4, 2)
    with capture(module) as captured:
        module.forward(torch.ones(2, 4))
    with pytest.raises(SourceError, match=r"the captured Linear was not called\n  fix: inside"):
        _ = captured.calls


@pytest.mark.filterwarnings("ignore:`torch.jit")  # every entry of torch.jit warns
@pytest.mark.parametrize("make", [lambda: torch.jit.script(nn.Linear(4, 2)), lambda: len])
def test_what_cannot_be_captured(make: Callable[[], Any]) -> None:
    with pytest.raises(SourceError, match=r"cannot be listened to\n  fix: give"), capture(make()):
        pass


SCRIPT = """
import sys
import torch
from torch import nn
import beside
from edgeport.deploy import capture

class Net(nn.Module):
    def forward(self, x):
        return twice(x)

def twice(x):
    from beside import FACTOR
    return x * FACTOR

if __name__ == "__main__":
    assert len(sys.argv) == 1 and sys.argv[0].endswith("script.py"), sys.argv
    net = Net()
    with capture(net):
        for rows in (2, 3):
            net(torch.ones(rows, 4))
    {end}
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Writes a script; what running it changes for good is undone after the test."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    (tmp_path / "beside.py").write_text("FACTOR = 2\n")

    def write(text: str) -> Path:
        path = tmp_path / "script.py"
        path.write_text(text)
        return path

    yield write
    sys.modules.pop("beside", None)


@pytest.mark.parametrize("end", ["pass", "sys.exit()", "raise SystemExit(0)"])
def test_a_script_runs_as_python_runs_it(script: Callable[[str], Path], end: str) -> None:
    argv = sys.argv
    captured = run_script(script(SCRIPT.format(end=end)))
    assert sys.argv is argv
    assert shapes(captured) == [[2, 4], [3, 4]]
    example = captured.calls[0].args
    assert captured.module(*example).tolist() == [[2.0] * 4] * 2


def test_compilers_find_what_a_script_defines(script: Callable[[str], Path]) -> None:
    captured = run_script(script(SCRIPT.format(end="pass")))
    program = torch.export.export(captured.module, captured.calls[0].args, strict=True)
    assert program.module()(torch.ones(2, 4)).tolist() == [[2.0] * 4] * 2


def test_a_relative_path(script: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(SCRIPT.format(end="import os; os.chdir('/')"))
    monkeypatch.chdir(path.parent.parent)
    assert run_script(path.relative_to(path.parent.parent)).count == 2


EMPTY = "from edgeport.deploy import capture\nfrom torch import nn\nm = nn.Linear(2, 1)\n"


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("\n1 / 0\n", r"raised ZeroDivisionError: division by zero \(script.py, line 2\)", "mend"),
        ("import torch\ntorch.ones(2) @ torch.ones(3)\n", r"RuntimeError: .*, line 2\)", "python"),
        ("def f(:\n", r"raised SyntaxError: invalid syntax \(script.py, line 1\)", "mend"),
        ("import sys\nsys.exit(3)\n", r"raised SystemExit: 3 \(script.py, line 2\)", "mend"),
        ("import sys\nsys.exit('no data')\n", "raised SystemExit: no data", "mend"),
        ("x = 1\n", "makes no capture, expected 1", "with edgeport.deploy.capture"),
        (EMPTY + "with capture(m): pass\n" * 2, "makes 2 captures, expected 1", "once, around all"),
        (EMPTY + "with capture(m): pass\n", "the captured Linear was not called", "call that same"),
        (EMPTY + "with capture(3): pass\n", "capture was given a int", "eager"),
    ],
)
def test_what_is_wrong_with_a_script(
    script: Callable[[str], Path], text: str, problem: str, remedy: str
) -> None:
    main, argv = sys.modules["__main__"], sys.argv
    with pytest.raises(SourceError, match=problem) as caught:
        run_script(script(text))
    assert remedy in caught.value.remedy
    assert sys.argv is argv
    assert sys.modules["__main__"] is main or "expected 1" in problem or "called" in problem


def test_there_is_no_script(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no such script: .*absent.py\n  fix: check"):
        run_script(tmp_path / "absent.py")


def test_a_capture_outside_of_a_script_reaches_no_script(script: Callable[[str], Path]) -> None:
    with capture(nn.Linear(2, 1)), pytest.raises(SourceError, match="makes no capture"):
        run_script(script("x = 1\n"))
    with capture(nn.Linear(2, 1)):  # nor does one that comes after
        pass


def test_control_c_stops_us(script: Callable[[str], Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_script(script("raise KeyboardInterrupt\n"))


def test_an_array_may_be_filled_anew_after_a_call() -> None:
    class Module(nn.Module):
        def forward(self, x: Any) -> Tensor:
            return torch.as_tensor(x) * 2

    module, array = Module(), np.zeros(3, np.float32)
    with capture(module) as captured:
        for value in (1, 2):
            array[:] = value
            module(array)

    assert [call.args[0].tolist() for call in captured.calls] == [[1, 1, 1], [2, 2, 2]]
