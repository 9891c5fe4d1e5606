"""A search finds what random inputs don't, stays in range, and repeats itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeport.deploy import make_call, make_source
from edgeport.deploy.proof.reference import Reference, make_golden
from edgeport.deploy.proof.search import _Climb, _neighbour, search
from edgeport.runtimes import EngineError, TensorSpec
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(9, 4)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return self.head(torch.cat([x, self.table(ids)], -1))  # type: ignore[no-any-return]  # Any


class Backend:
    """The truth, but for a fault that shows only where ``x[:, 0]`` is large."""

    def __init__(self, reference: Reference, edge: float, kind: str = "bends") -> None:
        self._reference = reference
        self._edge = edge
        self._kind = kind
        self.grows = False

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        oracle = self._reference.answer(_sample(inputs)).oracle["output"]
        answer = oracle.astype(np.float32)
        beyond = inputs["x"][:, 0] > self._edge
        if beyond.any() and self._kind == "raises":
            raise EngineError("no kernel", remedy="none")
        if self.grows:
            answer[beyond] *= 1 + 1e-5 * inputs["x"][beyond, :1]
            return {"output": answer}
        answer[beyond] += np.float32(np.nan if self._kind == "nan" else 1e-2)
        return {"output": answer}


def _sample(inputs: Mapping[str, Array]) -> Any:
    from edgeport.deploy.sources.samples import Sample

    return Sample("any", "random", inputs)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return made(Net())


def made(module: nn.Module) -> Reference:
    module.eval()
    example = {"x": torch.zeros(2, 4), "ids": torch.zeros(2, dtype=torch.int64)}
    specs = [TensorSpec("x", "float32", ("batch", 4)), TensorSpec("ids", "int64", ("batch",))]
    return Reference(make_source("m", module, make_call(module, (), example), specs, {}))


@pytest.fixture(scope="module")
def golden(reference: Reference) -> tuple[Golden, ...]:
    return make_golden(reference)


def largest(golden: tuple[Golden, ...]) -> float:
    return max(float(g.inputs["x"].max()) for g in golden if g.kind == "random")


@pytest.mark.usually("nan")
@pytest.mark.parametrize("kind", ["nan", "raises"])
def test_a_fault_that_no_sample_shows_is_found(
    reference: Reference, golden: tuple[Golden, ...], kind: str
) -> None:
    seen = max(float(g.inputs["x"][:, 0].max()) for g in golden if g.kind == "random")
    assert seen + 0.1 < largest(golden)  # in another column
    backend: Any = Backend(reference, seen, kind)
    found = search("b", backend, reference, golden, time_s=60)  # it ends when it has found it
    assert found.usual < 8
    assert found.worst == np.inf
    assert found.sample is not None
    assert (found.sample.kind, found.sample.name) == ("search", "search, b")
    assert seen < found.sample.inputs["x"][:, 0].max() <= largest(golden)
    seen_ids = {int(i) for g in golden for i in g.inputs["ids"]}
    assert {*found.sample.inputs["ids"].tolist()} <= seen_ids <= set(range(9))
    assert found.sample.oracle["output"].dtype == np.float64


class Chooses(Net):
    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return super().forward(x, ids).argmax(-1)


class Refuses:
    def __init__(self, reference: Reference, edge: float) -> None:
        self._reference, self._edge = reference, edge

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if (inputs["x"][:, 0] > self._edge).any():
            raise EngineError("no kernel", remedy="none")
        return self._reference.answer(_sample(inputs)).eager


def test_an_engine_that_fails_is_found_where_all_outputs_are_integers() -> None:
    chooses = made(Chooses())
    golden = make_golden(chooses)
    seen = max(float(g.inputs["x"][:, 0].max()) for g in golden if g.kind == "random")
    backend: Any = Refuses(chooses, seen)
    found = search("b", backend, chooses, golden, time_s=60)
    assert (found.usual, found.worst) == (0, np.inf)


def test_a_climb_goes_up(reference: Reference, golden: tuple[Golden, ...]) -> None:
    backend: Any = Backend(reference, 0.5)
    backend.grows = True
    climb = _Climb(backend, reference, [g for g in golden if g.kind == "random"], False)
    heights = []
    for _ in range(120):
        climb.step()
        heights.append(climb.worst)
    assert heights == sorted(heights)
    assert heights[-1] > 1.05 * climb.usual > 8


def test_of_a_narrower_artefact_the_signal_goes_down(
    reference: Reference, golden: tuple[Golden, ...]
) -> None:
    class Coarse:
        def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
            answer = reference.answer(_sample(inputs)).eager["output"]
            return {"output": np.clip(np.round(answer, 1), -1.5, 1.5)}

    backend: Any = Coarse()
    usual = [g for g in golden if g.kind == "random"]
    climb = _Climb(backend, reference, usual, True)
    for _ in range(120):
        climb.step()
    assert climb.usual + 1 < climb.worst < 0
    assert climb.found is not None
    found = climb.found.measure("output", backend.run(climb.found.inputs)["output"])
    assert found.snr_db <= -climb.worst + 1e-9  # what the verdict says, or less
    searched = search("b", backend, reference, golden, time_s=0, narrower=True)
    assert (searched.unit, searched.usual) == ("dB", -climb.usual)


def test_steps_depend_on_the_seed_alone() -> None:
    inputs = {"x": np.ones((3, 4), np.float32), "ids": np.array([1, 2, 3])}
    pool = {name: array.reshape(-1) for name, array in inputs.items()}
    runs = []
    for seed in (0, 0, 1):
        generator = np.random.default_rng(seed)
        here = inputs
        for _ in range(20):
            here = _neighbour(here, pool, generator)
        runs.append(here["ids"].tolist())
    assert runs[0] == runs[1] != runs[2]


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(["float16", "float32", "float64", "int8", "bool"]))
def test_a_step_stays_where_the_samples_are(seed: int, dtype: str) -> None:
    generator = np.random.default_rng(seed)
    pool = (100 * generator.standard_normal(9)).astype(dtype)
    array = generator.choice(pool, (2, 3))
    near = _neighbour({"x": array}, {"x": pool}, generator)["x"]
    assert (near.dtype, near.shape) == (array.dtype, array.shape)
    assert pool.min() <= near.min()
    assert near.max() <= pool.max()
    if array.dtype.kind != "f":
        assert set(near.reshape(-1).tolist()) <= set(pool.tolist())
