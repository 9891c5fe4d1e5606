"""Tensors that are filled in every call: the same answers, the same errors, and nothing shared."""

import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils import dlpack

from edgeport.runtimes import (
    BackendMissingError,
    EdgeportError,
    EngineError,
    InputError,
    LostGpuError,
    Options,
    OutOfMemoryError,
    Signature,
    TensorSpec,
)
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.libtorch.failures import failure, last_line
from edgeport.runtimes.libtorch.session import (
    ExtraFiles,
    TorchGpuSession,
    TorchSession,
    open_signed,
)
from edgeport.runtimes.libtorch.threads import thread_count
from edgeport.runtimes.safety.forked import run_forked

FREE = ("n", "m")
X = TensorSpec("x", "float32", FREE)
Y = TensorSpec("y", "float32", FREE)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Sessions set their number, and these are left open."""
    with thread_count(torch.get_num_threads()):
        yield


def session(call: Callable[..., Any], outputs: tuple[TensorSpec, ...] = (Y,)) -> TorchSession:
    return TorchSession("libtorch", call, Signature((X,), outputs), Options(threads=1))


def scripted(module: nn.Module) -> Callable[..., Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated")
        script: Any = torch.jit.script(module)
    return script.forward  # type: ignore[no-any-return]


def batch(*shape: int, first: float = 0) -> Array:
    return (np.arange(np.prod(shape)) + first).reshape(shape).astype(np.float32)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=40))
@settings(max_examples=30)
def test_any_shape_any_number_of_times(shapes: list[tuple[int, int]]) -> None:
    opened = session(lambda x: x * 2 + 1)
    for number, shape in enumerate(shapes):
        x = batch(*shape, first=number)
        np.testing.assert_array_equal(opened.run({"x": x})["y"], x * 2 + 1)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: (x,),
        lambda x: x.detach(),
        lambda x: x.data,
        lambda x: x.view(x.shape),
        lambda x: x.reshape(-1)[: x.numel()].reshape(x.shape),
        lambda x: x.t().t(),
        lambda x: x.contiguous(),
        lambda x: x.to(torch.float32),
        lambda x: x.as_strided(x.shape, x.stride()),
        lambda x: x.chunk(1)[0],
        lambda x: x.mul_(1),
        lambda x: nn.functional.dropout(x, training=False),
    ],
)
def test_an_answer_is_the_callers_though_it_is_a_view_of_the_input(
    view: Callable[[Tensor], Any],
) -> None:
    opened = session(view)
    xs = [batch(2, 3, first=number) for number in range(5)]
    answers = [opened.run({"x": x})["y"] for x in xs]
    for x, answer in zip(xs, answers, strict=True):
        np.testing.assert_array_equal(answer, x)
        answer += 1  # it is writable, and nobody else's
    np.testing.assert_array_equal(xs[4], batch(2, 3, first=4))


def test_an_answer_is_the_callers_in_inference_mode_too() -> None:
    opened = session(lambda x: x)
    with torch.inference_mode():
        answers = [opened.run({"x": batch(2, 3, first=number)})["y"] for number in range(4)]
    for number, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, batch(2, 3, first=number))


class Remembers(nn.Module):
    """Answers its last question again: it keeps its input, or a part of it."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.whole = whole
        self.key, self.value = torch.zeros(0), torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        """(n, m) -> (n, m)."""
        seen = x if self.whole else x[0]
        if self.key.shape == seen.shape and bool((self.key == seen).all()):
            return self.value
        self.key, self.value = seen, x * 2
        return self.value


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("as_script", [True, False])
def test_a_module_that_keeps_its_input_finds_it_as_it_was(whole: bool, as_script: bool) -> None:
    module = Remembers(whole)
    opened = session(scripted(module) if as_script else module)
    for first in (0, 7, 7, 3, 0, 5, 5):
        x = batch(2, 3, first=first)
        np.testing.assert_array_equal(opened.run({"x": x})["y"], x * 2)


@pytest.mark.parametrize("outputs", [(Y,), (Y, TensorSpec("z", "float32", FREE))])
def test_what_nobody_keeps_is_used_again(outputs: tuple[TensorSpec, ...]) -> None:
    seen: set[int] = set()

    def call(x: Tensor) -> tuple[Tensor, ...]:
        seen.add(x.data_ptr())
        return tuple(x * 2 for _ in outputs)

    opened = session(call, outputs)
    opened.run({"x": batch(2, 3)})
    seen.clear()
    for _ in range(5):
        opened.run({"x": batch(2, 3)})
    assert len(seen) == 1


def test_a_module_that_writes_into_its_input() -> None:
    opened = session(lambda x: x.mul_(2))
    x = batch(2, 3)
    for _ in range(4):
        np.testing.assert_array_equal(opened.run({"x": x})["y"], x * 2)
    np.testing.assert_array_equal(x, batch(2, 3))


def test_a_module_that_turns_its_input() -> None:
    opened = session(lambda x: x.t_(), (TensorSpec("y", "float32", FREE[::-1]),))
    x = batch(2, 3)
    for _ in range(4):
        np.testing.assert_array_equal(opened.run({"x": x})["y"], x.T)


def test_strides_and_what_cannot_be_written_to_do_not_matter() -> None:
    opened = session(lambda x: x + 1)
    whole = batch(4, 6)
    fixed = whole[:, :3].copy()
    fixed.flags.writeable = False
    for x in (whole[:, ::2], whole[::-1, :3], np.asfortranarray(whole[:, :3]), fixed):
        for _ in range(3):
            np.testing.assert_array_equal(opened.run({"x": x})["y"], x + 1)


def test_several_outputs_of_any_kind() -> None:
    weight = torch.ones(3)
    outputs = (Y, TensorSpec("w", "float32", (3,)), TensorSpec("same", "float32", FREE))
    opened = session(lambda x: [x + 1, weight, x], outputs)
    for first in range(4):
        x = batch(2, 3, first=first)
        found = opened.run({"x": x})
        assert list(found) == ["y", "w", "same"]
        np.testing.assert_array_equal(found["y"], x + 1)
        np.testing.assert_array_equal(found["same"], x)
        found["w"] += 1
    assert weight.tolist() == [1, 1, 1]


def test_a_mistake_is_seen_after_many_right_calls() -> None:
    opened = session(lambda x: x + 1)
    x = batch(2, 3)
    for _ in range(3):
        opened.run({"x": x})
    wrong: list[tuple[Any, str]] = [
        ({"x": x.astype(np.float64)}, "is float64, expected float32"),
        ({"x": x.astype(">f4")}, "foreign byte order"),
        ({"x": x[0]}, "has 1 axes"),
        ({"y": x}, "wrong input names"),
        ({"x": x, "y": x}, "unknown 'y'"),
        (x, "must be a mapping"),
    ]
    for inputs, said in wrong:
        with pytest.raises(InputError, match=said):
            opened.run(inputs)


def test_what_fails_in_a_later_call_says_so() -> None:
    def call(x: Tensor) -> Tensor:
        if x[0, 0] > 2:
            raise ValueError("too large")
        return x

    opened = session(call)
    for _ in range(3):
        opened.run({"x": batch(2, 3)})
    for _ in range(3):
        with pytest.raises(EngineError, match="torch failed: too large"):
            opened.run({"x": batch(2, 3, first=3)})
    np.testing.assert_array_equal(opened.run({"x": batch(2, 3)})["y"], batch(2, 3))


def test_a_closed_session_lets_go_of_its_model() -> None:
    module = nn.Linear(3, 3)
    alive = weakref.ref(module)
    opened = session(module)
    for _ in range(3):
        opened.run({"x": batch(2, 3)})
    opened.close()
    with pytest.raises(EngineError, match="the session is closed"):
        opened.run({"x": batch(2, 3)})
    del module
    assert alive() is None  # at once: nothing waits for the garbage collector


def test_threads_have_tensors_of_their_own() -> None:
    opened = session(lambda x: x * 2)

    def run(number: int) -> None:
        for round_ in range(200):
            x = np.full((2 + number % 2, 3), number + round_, np.float32)
            np.testing.assert_array_equal(opened.run({"x": x})["y"], x * 2)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))


TURNS: list[Callable[[Tensor], object]] = [
    lambda x: x.t_(),
    lambda x: x.resize_(1, 3),
    lambda x: x.unsqueeze_(0),
    lambda x: x.set_(torch.ones(2, 3)),  # type: ignore[call-overload]  # it has no types for one
]


@pytest.mark.parametrize("turn", TURNS, ids=["t_", "resize_", "unsqueeze_", "set_"])
def test_a_module_that_sometimes_turns_its_input(turn: Callable[[Tensor], object]) -> None:
    def call(x: Tensor) -> Tensor:
        y = x * 2
        if x[0, 0] > 10:
            turn(x)
        return y

    opened = session(call)
    for first in (0, 1, 20, 2, 3, 20, 20, 4):
        x = batch(2, 3, first=first)
        np.testing.assert_array_equal(opened.run({"x": x})["y"], x * 2)


KEPT: list[tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = [
    (lambda x: x.detach().numpy(), torch.from_numpy),
    (lambda x: x.untyped_storage(), lambda kept: torch.empty(0).set_(kept, 0, (2, 3), (3, 1))),
    (lambda x: x.clone, lambda kept: kept()),
    (lambda x: x.__dlpack__(), dlpack.from_dlpack),
]


@pytest.mark.parametrize(("keep", "look"), KEPT, ids=["numpy", "storage", "method", "dlpack"])
def test_whatever_a_module_keeps_of_its_input(
    keep: Callable[[Tensor], Any], look: Callable[[Any], Tensor]
) -> None:
    kept: list[Any] = []

    def call(x: Tensor) -> Tensor:
        before = look(kept.pop()) if kept else torch.zeros(2, 3)
        kept.append(keep(x))
        return x + before

    opened = session(call)
    before = np.zeros((2, 3), np.float32)
    for first in range(5):
        x = batch(2, 3, first=10 * first)
        np.testing.assert_array_equal(opened.run({"x": x})["y"], x + before)
        before = x


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "RuntimeError"),
        ("one\n\ntwo\n", "two"),
        (
            "Traceback\n    y = f(x)\n        ~ <--- HERE\n    z\nRuntimeError: bad\n",
            "RuntimeError: bad",
        ),
        (
            "Traceback\n    y = f(x)\n        ~ <--- HERE\n    z\nRuntimeError: \n",
            "RuntimeError: y = f(x)",
        ),
        (
            "\nSizes differ.\nThe above operation failed shape propagation in this context:\n"
            '  File "a.py", line 9\n    _2 = f(_1)\n         ~ <--- HERE\n    return _2\n',
            "Sizes differ. _2 = f(_1)",
        ),
        (
            "\nNot valid.\nThe variants:\n  g()\n\nThe original call is:\n"
            "    y = f(x)\n        ~ <--- HERE\n    z\n",
            "Not valid. y = f(x)",
        ),
        ("no\n\nWhile executing %ge : f(x)\nOriginal traceback:\nUse tlparse to see it.", "no"),
    ],
)
def test_the_line_that_says_what_happened(text: str, said: str) -> None:
    assert last_line(RuntimeError(text)) == said


def test_what_torch_says_of_cuda_is_told_without_the_advice_behind_it() -> None:
    said = (
        "The following operation failed in the TorchScript interpreter.\nTraceback (most recent "
        "call last):\nRuntimeError: CUDA error: device-side assert triggered\nSearch for "
        "`cudaErrorAssert' in https://docs.nvidia.com for more information.\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
    )
    error = failure(RuntimeError(said), torch.device("cuda", 0))
    assert type(error) is LostGpuError
    assert error.problem == "torch failed on cuda:0: CUDA error: device-side assert triggered"
    assert error.remedy.startswith("CUDA cannot be used again in this process: start a new one")


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        ("CUDA error: unspecified launch failure", LostGpuError, "torch failed on cuda:0: CUDA"),
        ("CUDA error: unknown error", LostGpuError, "torch failed on cuda:0: CUDA error: unkno"),
        ("CUDA error: no kernel image is available", BackendMissingError,
         r"torch \S+ was not built for the GPU cuda:0: CUDA error: no .*\n  fix: install a torch"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", BackendMissingError,
         r"torch failed on cuda:0: .*\n  fix: see whether another process has it alone"),
        ("CUDA error: out of memory", OutOfMemoryError, "cuda:0 is out of memory: CUDA error: o"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`", OutOfMemoryError,
         "cuda:0 is out of memory: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", OutOfMemoryError, "cuda:0 is out of memory: cu"),
        ("CUDA error: invalid argument", EngineError,
         r"torch failed on cuda:0: CUDA error: invalid argument\n  fix: edgeport doctor"),
    ],
)  # fmt: skip  # text and meaning side by side
def test_what_a_gpu_does_not_do(
    tmp_path: Path, said: str, kind: type[EdgeportError], message: str
) -> None:
    text = f"{said}\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
    assert type(failure(RuntimeError(text), torch.device("cuda", 0))) is kind

    def load(extra_files: ExtraFiles, device: torch.device) -> torch.nn.Module:
        raise RuntimeError(text)

    with pytest.raises(kind, match=message.replace("cuda:0", "cpu")):  # the same while it is loaded
        open_signed("libtorch", tmp_path / "model.ts", Options(), load)


def test_a_session_on_a_gpu_leaves_nothing_of_a_module_that_refers_to_itself() -> None:
    module: Any = nn.Linear(2, 2)
    module.own = module.forward  # as an exported program does
    gone = weakref.ref(module)
    opened = TorchGpuSession("torch", module.own, Signature((X,), (Y,)), Options())
    del module
    opened.close()
    opened.close()
    assert gone() is None
    with pytest.raises(EngineError, match="the session is closed"):
        opened.run({"x": batch(1, 2)})


def test_a_gpu_without_memory_for_the_weights(tmp_path: Path) -> None:
    def load(extra_files: ExtraFiles, device: torch.device) -> torch.nn.Module:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 is full."
        )

    with pytest.raises(
        OutOfMemoryError, match=r"^cpu is out of memory: CUDA out .* is full\.\n  fix: use sm"
    ):
        open_signed("libtorch", tmp_path / "model.ts", Options(), load)


def test_sessions_may_end_in_the_order_of_their_begin() -> None:
    """As where a server opens a model anew before it closes the old one."""
    before = torch.get_num_threads()
    first, second, third = (
        TorchSession("torch", torch.tanh, Signature((X,), (Y,)), Options(threads=count))
        for count in (before + 1, before + 2, before + 2)
    )
    first.close()
    second.close()
    assert third.engine.threads == before + 2
    third.close()
    assert torch.get_num_threads() == before


def test_what_a_caller_sets_between_sessions_is_given_back_to_him() -> None:
    first = session(torch.tanh)
    torch.set_num_threads(3)
    second = session(torch.tanh)
    first.close()
    second.close()
    assert torch.get_num_threads() == 3


def test_a_forked_process_computes_with_as_many_threads() -> None:
    x = batch(1000, 1000)
    with TorchSession("torch", torch.tanh, Signature((X,), (Y,)), Options(threads=2)) as opened:
        expected = opened.run({"x": x})["y"]  # OpenMP has its second thread from here on

        def answer() -> bytes:
            assert opened.engine.threads == 2
            return opened.run({"x": x})["y"].tobytes()

        for _ in range(2):
            assert run_forked(answer, time_s=30) == (expected.tobytes(), 0)
        np.testing.assert_array_equal(opened.run({"x": x})["y"], expected)
