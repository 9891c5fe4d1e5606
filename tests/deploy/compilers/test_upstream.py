import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal
from torch.export import exported_program

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.upstream import cause, inference_only, quick_passes, quiet


class Older(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.mark_non_differentiable(x)
        assert ctx.needs_input_grad == (False, False)
        return x * scale


class Newer(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sin()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        raise AssertionError("only for training")


def test_autograd_functions_are_their_forward_and_come_back() -> None:
    x = torch.randn(3, requires_grad=True)
    before = vars(torch.autograd.Function)["apply"]
    fast = torch.backends.mha.get_fastpath_enabled()
    with inference_only():
        apply: Any = Older.apply
        assert torch.equal(apply(x, 2.0), x * 2)
        apply = Newer.apply
        assert torch.equal(apply(x), x.sin())
        assert not torch.backends.mha.get_fastpath_enabled()
    assert vars(torch.autograd.Function)["apply"] is before
    assert torch.backends.mha.get_fastpath_enabled() == fast


class Saved(Newer):
    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)


sine: Any = Saved.apply


class LookedUpBefore(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(sine(x))


def test_an_autograd_function_that_was_looked_up_before(tmp_path: Path) -> None:
    """In torch 2.13 ``apply`` is Python's, and may be another; from 2.14 on it is C's."""
    deploy.export(LookedUpBefore(), torch.randn(3, 4), tmp_path / "m.edge")


class Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = [2, "two"]  # no script

    def forward(self, x: Tensor) -> Tensor:
        if x.shape.numel() == 0:
            return x.new_zeros(0)
        length = x.shape[1:].numel()
        return x.reshape(-1, length) * torch.linspace(0, 1, length)


@pytest.mark.slow
def test_the_product_of_a_shape_stays_free(tmp_path: Path) -> None:
    path = tmp_path / "m.edge"
    own = torch.Size([2, 3]).numel
    deploy.export(Flattened(), torch.randn(2, 3, 5), path, dimensions={"x": {0: "n", 2: "time"}})
    assert type(torch.Size([2, 3]).numel) is type(own)
    x = torch.randn(3, 3, 7)
    for backend in ("ort-cpu", "libtorch", "torch"):
        with runtimes.open(path, backend) as session:
            found = session.run({"x": x.numpy()})["output"]
        np.testing.assert_allclose(found, Flattened()(x).numpy(), atol=1e-6)


def test_a_distribution_does_not_look_at_its_arguments_while_it_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Distribution, "_validate_args", True)  # dynamo turns it off for good
    with inference_only():
        made = Normal(torch.zeros(2), -torch.ones(2))
    assert made.scale.tolist() == [-1, -1]
    with pytest.raises(ValueError, match="scale"):
        Normal(torch.zeros(2), -torch.ones(2))


def test_a_script_of_attention_takes_the_documented_path() -> None:
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    before = torch.backends.mha.get_fastpath_enabled
    with inference_only(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        frozen: Any = torch.jit.freeze(torch.jit.script(layer))
    assert torch.backends.mha.get_fastpath_enabled is before
    with torch.no_grad(), torch.autograd.profiler.profile() as profile:
        frozen(torch.rand(2, 3, 8))
    told: Any = profile  # its events are None before the end
    ran = {event.name for event in told.function_events}
    assert "aten::scaled_dot_product_attention" in ran
    assert "aten::_transformer_encoder_layer_fwd" not in ran


class Detached(torch.nn.Module):
    """Writes past autograd, as attention over padded memories was written."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        scores = x * self.scale.data
        scores.data.masked_fill_(x > 0, -9.0)
        return scores.softmax(-1)


def test_data_is_the_tensor_itself() -> None:
    module, x, other = Detached(), torch.randn(3, 4), torch.randn(3, 4)
    with quiet(), inference_only():
        made: tuple[Any, ...] = (
            torch.jit.trace(module, x),  # type: ignore[no-untyped-call]
            torch.export.export(module, (x,)).module(),
        )
    for each in made:
        torch.testing.assert_close(each(other), module(other))
    module.scale.data = torch.zeros(4)  # as ever
    assert not module.scale.any()


def test_quiet(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with quiet():
        sys.stdout.write("out")
        sys.stderr.write("err")
        warnings.warn("warning", stacklevel=1)
        logging.getLogger("torch").critical("log")
    assert capsys.readouterr() == ("", "")
    assert not caplog.records


def test_the_cause_is_one_line() -> None:
    error = RuntimeError("pages")
    error.__cause__ = ValueError("\n\n  the cause\nadvice")
    assert cause(error) == "ValueError: the cause"
    assert cause(ValueError()) == "ValueError"


def test_quick_passes_register_what_torch_does() -> None:
    table = {torch.ops.aten.linear.default: lambda *_: NotImplemented}
    override: Any = exported_program._override_composite_implicit_decomp

    def kernels() -> set[Any]:
        with override(table):
            return {*torch.ops.aten.linear.default.py_kernels}

    expected = kernels()
    with quick_passes():
        assert kernels() == expected
        registered: Any = torch.ops.aten.linear.default.py_impl
        with override(table), pytest.raises(RuntimeError, match="override a python impl for Disp"):
            registered(torch.DispatchKey.CPU)(len)
    assert torch.DispatchKey.CPU in expected
    assert not expected & {*torch.ops.aten.linear.default.py_kernels}
