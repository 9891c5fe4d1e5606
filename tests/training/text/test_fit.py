import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport.runtimes.errors import ParityError
from edgeport.training.text.fit import refuse_difference

TEXTS = ["ab", "a", "abc"]
LENGTHS = np.array([[2.0], [1.0], [3.0]])


class Length(nn.Module):
    def __init__(self, wrong: float) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, text: Tensor) -> Tensor:
        length = (text >= 0).sum(1, keepdim=True).float()
        return torch.where(length == 2, self.wrong, length)


def test_a_difference_is_told_with_its_text() -> None:
    refuse_difference(Length(2.0002), TEXTS, LENGTHS, "numpy")
    for wrong in (2.0004, float("nan"), float("inf")):
        with pytest.raises(ParityError, match="the compiled module and numpy disagree on 'ab'"):
            refuse_difference(Length(wrong), TEXTS, LENGTHS, "numpy")
