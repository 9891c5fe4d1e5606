"""A U-Net that takes multiples of 4 alone, from the command line to everything that runs it."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from served import serving, tensor
from torch import Tensor, nn
from torch.nn import functional

from edgeport import runtimes
from edgeport.__main__ import main
from edgeport.runtimes.inputs import Array

REFUSED = "axis 2 is 10, expected height in 4..32 in steps of 4"


class UNet(nn.Module):
    """What comes up is joined as it is: sizes that two poolings round do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.up2, self.up1 = nn.ConvTranspose2d(8, 8, 2, 2), nn.ConvTranspose2d(8, 4, 2, 2)
        self.join2, self.join1 = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        one = self.down1(image).relu()
        two = self.down2(functional.max_pool2d(one, 2)).relu()
        deep = self.middle(functional.max_pool2d(two, 2)).relu()
        deep = self.join2(torch.cat([two, self.up2(deep)], 1)).relu()
        y: Tensor = self.join1(torch.cat([one, self.up1(deep)], 1))
        return y


def make() -> nn.Module:
    torch.manual_seed(0)
    return UNet().eval()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("steps") / "unet.edge"
    asked = [*declared(":4"), "-o", str(path), "--report", str(path.with_suffix(".html"))]
    assert main(["export", f"{__name__}:make", *asked]) == 0
    return path


def declared(step: str) -> list[str]:
    return ["--input", f"image=float32[batch<=32,1,height:4..32{step},width:4..{step}]"]


def image(height: int, width: int) -> Array:
    drawn: Array = np.random.default_rng(0).random((3, 1, height, width), np.float32)
    return drawn


def test_without_a_step_it_fails_and_says_how_one_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "unet.edge"
    assert main(["export", f"{__name__}:make", *declared(""), "-o", str(path)]) == 2
    told = capsys.readouterr().err
    assert "UNet fails on image [" in told
    assert "a range says which sizes of batch, height and width are allowed: NAME:MIN..MAX" in told
    assert "or NAME:MIN..MAX:STEP for the multiples of STEP" in told


@pytest.mark.slow
def test_multiples_alone_are_proved(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(bundle)]) == 0
    assert "3 of 3 backends pass" in capsys.readouterr().out
    samples = runtimes.Bundle.read(bundle).golden()
    sizes = {sample.inputs["image"].shape[2] for sample in samples}
    assert sizes == {4, 8, 28, 32}
    assert {sample.inputs["image"].shape[3] % 4 for sample in samples} == {0}


def test_inspect_and_the_report_tell_the_step(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "height in 4..32 in steps of 4" in shown
    assert "width in 4.. in steps of 4" in shown
    assert main(["inspect", str(bundle), "--json"]) == 0
    ranges = json.loads(capsys.readouterr().out)["signature"]["ranges"]
    assert ranges["height"] == {"min": 4, "max": 32, "opt": None, "step": 4}
    assert "step" not in ranges["batch"]
    assert "4 to 32 in steps of 4" in bundle.with_suffix(".html").read_text()


@pytest.mark.parametrize("backend", ["ort-cpu", "libtorch", "torch"])
def test_every_backend_takes_multiples_and_refuses_the_rest(bundle: Path, backend: str) -> None:
    module = make()
    with runtimes.open(bundle, backend) as session:
        for sizes in ((4, 4), (16, 44), (32, 8)):
            given = image(*sizes)
            with torch.no_grad():
                expected = module(torch.from_numpy(given)).numpy()
            found = session.run({"image": given})["output"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        with pytest.raises(runtimes.InputError, match=REFUSED):
            session.run({"image": image(10, 8)})


def test_predict_refuses_too(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "in.npz", image=image(10, 8))
    assert main(["predict", str(bundle), "--input", str(tmp_path / "in.npz")]) == 2
    assert REFUSED in capsys.readouterr().err


def test_a_server_answers_400(bundle: Path) -> None:
    with serving(bundle, "--backend", "ort-cpu") as server:
        for height, status in ((8, 200), (10, 400)):
            data = image(height, 8)
            asked = tensor(name="image", shape=data.shape, data=data.ravel().tolist())
            found = server.infer({"inputs": [asked]}, "unet")
            assert found[0] == status
        assert REFUSED in found[1]["error"]
        config = server.ask("GET", "/v2/models/unet/config")[1]
        assert config["parameters"]["smallest.image"] == {"string_value": "[1, 1, 4, 4]"}


def test_an_emitted_script_refuses_too(bundle: Path) -> None:
    script = bundle.with_name("infer.py")
    assert main(["embed", str(bundle), "-o", str(script)]) == 0
    model: Any = runpy.run_path(str(script))["Model"](bundle)
    assert model.run({"image": image(8, 12)})["output"].shape == (3, 1, 8, 12)
    for height, problem in ((10, "10 is not in 4..32 in steps of 4"), (36, "36 is not in 4..32")):
        with pytest.raises(ValueError, match=problem):
            model.run({"image": image(height, 8)})
