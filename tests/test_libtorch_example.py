"""The C++ example: built with CMake against the torch wheel's libtorch, compared with Python."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

EXAMPLE = Path(__file__).parents[1] / "scripts" / "libtorch"


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.linear(x) + shift
        return scores, scores.argmax(-1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch deprecates torch.jit
def test_it_answers_what_python_answers(tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    prefix = torch.utils.cmake_prefix_path
    build = tmp_path / "build"
    options = [f"-DCMAKE_PREFIX_PATH={prefix}", "-S", str(EXAMPLE), "-B", str(build)]
    command = ["cmake", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", build], check=True, stdout=subprocess.DEVNULL)

    x, shift = torch.randn(5, 8), torch.arange(3)
    trace: Any = torch.jit.trace
    module = trace(Two(), (x, shift))
    module.save(str(tmp_path / "model.ts"))
    np.save(tmp_path / "x.npy", x.numpy())
    np.save(tmp_path / "shift.npy", shift.numpy())
    program, model = build / "run", tmp_path / "model.ts"
    subprocess.run(
        [program, model, tmp_path / "x.npy", tmp_path / "shift.npy", "-o", tmp_path], check=True
    )
    for place, expected in enumerate(module(x, shift)):
        found = np.load(tmp_path / f"output_{place}.npy")
        np.testing.assert_array_equal(found, expected.detach().numpy(), strict=True)

    np.save(tmp_path / "x.npy", np.asfortranarray(x.numpy()))
    for arguments, code, problem in (
        ([model, tmp_path / "x.npy", tmp_path / "shift.npy", "-o", tmp_path], 2, "Fortran order"),
        ([model, tmp_path / "shift.npy", "-o", tmp_path], 1, "run: "),
        ([model, model, "-o", tmp_path], 2, "is not an npy file"),
        ([], 2, "usage: run MODEL.ts"),
    ):
        done = subprocess.run(
            [str(program), *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == code
        assert problem in done.stderr
