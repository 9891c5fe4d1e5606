"""TorchScript has both sides of a branch that a program has."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeport import deploy


class Branches(nn.Module):
    """By torch's own operator, of a free size, in code that no script takes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4)
        self.other = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        def small(x: Tensor) -> Tensor:
            return x * 2

        def large(x: Tensor) -> Tensor:
            return x - x.shape[0]

        y = self.layer(x) + self.other(x[:, 1:])
        found: Tensor = torch.cond(y.max() < 1, small, large, (y,))
        return {"found": found}["found"]


def test_a_file_has_the_branches_of_a_program(tmp_path: Path) -> None:
    module = Branches()
    told: list[deploy.Event] = []
    made = deploy.export(
        module, {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=["torchscript"],
        dimensions={"x": {0: "rows"}}, on_event=told.append,
    )  # fmt: skip  # one call
    attempts = [event for event in told if isinstance(event, deploy.Attempt)]
    assert (attempts[-1].route, attempts[-1].outcome) == ("export", "proved")
    with made.bundle.open("libtorch") as session, torch.no_grad():
        for rows in (1, 2, 7):
            for x in (
                0.1 * torch.randn(rows, 4),
                30 * torch.randn(rows, 4),
            ):
                (found,) = session.run({"x": x.numpy()}).values()
                np.testing.assert_allclose(found, module(x), rtol=1e-5, atol=1e-5)
