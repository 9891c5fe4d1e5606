from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.exporter import source_of
from edgeport.runtimes import SourceError, UsageError

BATCH = {name: {0: "batch"} for name in ("x", "state_0", "state_1")}
ROWS = torch.arange(12.0).reshape(3, 4)


class Stateful(nn.Module):
    def forward(self, x: Tensor, state: tuple[Tensor, Tensor], mode: str = "add") -> Tensor:
        h, c = state
        return x + h if mode == "add" else x * c


EXAMPLE = {"x": torch.ones(2, 4), "state": (torch.ones(2, 4), torch.ones(2, 4))}
STATE = (ROWS + 1, ROWS + 2)


@pytest.mark.parametrize(
    "sample",
    [
        {"x": ROWS, "state": STATE},
        (ROWS, STATE),
        [ROWS.numpy(), [ROWS.numpy() + 1, STATE[1]]],
        (ROWS.clone().requires_grad_(), STATE, "add"),
        {"x": ROWS, "state_0": STATE[0], "state_1": STATE[1].numpy()},
    ],
)
def test_a_sample_is_given_as_the_example_or_by_the_names_of_inputs(sample: Any) -> None:
    (real,) = source_of("m", Stateful(), EXAMPLE, BATCH, samples=[sample]).real

    assert [*real] == ["x", "state_0", "state_1"]
    for array, expected in zip(real.values(), (ROWS, *STATE), strict=True):
        np.testing.assert_array_equal(array, expected.numpy())


def test_a_sample_in_order_has_the_names_of_the_example() -> None:
    source = source_of("m", nn.ReLU(), {"image": torch.ones(2, 4)}, samples=[torch.ones(2, 4)])
    assert [*source.real[0]] == ["image"]


def test_a_sample_in_bfloat16_is_taken_as_the_example_is() -> None:
    rows = torch.ones(2, 4, dtype=torch.bfloat16)
    source = source_of("m", nn.ReLU(), {"x": rows}, samples=[{"x": rows}])
    assert source.real[0]["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("samples", "problem", "remedy"),
    [
        (
            [(ROWS, STATE), (ROWS, STATE, "mul")],
            "sample 1: 'mode' is 'mul', and 'add' in the example, which the artefact holds as a "
            "constant",
            "leave the sample out, or pass what changes as a tensor",
        ),
        (
            [{"x": ROWS, "stale": STATE}],
            "sample 0: forward(x, state, mode) has no parameter 'stale'",
            "rename it to 'state'",
        ),
        (
            [{"x": ROWS, "state_1": ROWS, "state_2": ROWS}],
            "sample 0: forward(x, state, mode) has no parameter 'state_1'",
            "a part goes by its path: rename it to 'state.1'",
        ),
        (
            [{"x": ROWS}],
            "sample 0 does not fit the declared inputs: wrong input names: missing 'state_0', "
            "'state_1'",
            "the inputs are x: ",
        ),
        (
            [ROWS],
            "sample 0 does not fit the declared inputs: wrong input names: missing 'state_0', "
            "'state_1'",
            "the inputs are x: ",
        ),
        (
            [{"x": ROWS.to(torch.complex64), "state_0": ROWS, "state_1": ROWS}],
            "sample 0: input 'x' is complex64, which engines cannot pass",
            "pass the real and the imaginary part",
        ),
        ([(ROWS, STATE, "add", 1)], "sample 0: 4 example inputs for forward(x, state, mode)", ""),
    ],
)
def test_a_sample_that_fits_no_call_says_why(samples: Any, problem: str, remedy: str) -> None:
    with pytest.raises(SourceError) as caught:
        source_of("m", Stateful(), EXAMPLE, BATCH, samples=samples)
    assert caught.value.problem == problem
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("samples", [{"x": ROWS}, ROWS, ROWS.numpy(), "rows", None, 3])
def test_samples_are_a_list(samples: Any) -> None:
    with pytest.raises(UsageError) as caught:
        source_of("m", nn.ReLU(), {"x": torch.ones(2, 4)}, samples=samples)
    assert caught.value.problem == (
        f"samples is of type {type(samples).__name__}, expected a list of samples"
    )
    assert caught.value.remedy == "write samples=[...]: each sample is given as the example is"


def test_samples_may_be_given_one_after_the_other() -> None:
    given = (each for each in (ROWS, ROWS + 1))
    source = source_of("m", nn.ReLU(), {"x": torch.ones(3, 4)}, samples=given)  # type: ignore[arg-type]  # has no length
    np.testing.assert_array_equal(source.real[1]["x"], ROWS.numpy() + 1)


def test_a_tensor_without_values_is_refused() -> None:
    with pytest.raises(
        SourceError, match="sample 0: 'input' has no values, being on the device meta"
    ):
        source_of("m", nn.ReLU(), {"x": ROWS}, samples=[ROWS.to("meta")])


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([[1, 2], [3]], "labels are of no one shape: "),
        (torch.ones(2, device="meta"), "'labels' has no values"),
    ],
)
def test_labels_of_which_no_array_is_made_are_refused(
    labels: Any, problem: str, tmp_path: Path
) -> None:
    with pytest.raises((UsageError, SourceError), match=problem):
        deploy.export(nn.ReLU(), {"x": ROWS}, tmp_path / "m.edge", samples=[ROWS], labels=labels)


def test_labels_and_calibration_are_tensors_too(tmp_path: Path) -> None:
    module = nn.Linear(4, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
        module.bias.zero_()
    rows = torch.tensor([[-1.0] * 4, [1.0] * 4, [2.0] * 4])

    made = deploy.export(
        module,
        rows,
        tmp_path / "m.edge",
        dimensions={"input": {0: "batch"}},
        samples=[rows],
        calibration=[torch.randn(100, 4)],
        labels=torch.tensor([0, 1, 1]),
        precision="int8",
    )

    (score,) = made.scores
    assert (score.module, score.artefact) == (1.0, 1.0)
