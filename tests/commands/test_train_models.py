"""Each model of ``edgeport train``, as a person types it."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeport.__main__ import main
from edgeport.commands import training_options
from edgeport.commands.train_events import Events
from edgeport.training import Epoch, fitting, load


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["train", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_choices_are_those_of_the_library() -> None:
    assert training_options.SCHEDULES == fitting.SCHEDULES
    assert training_options.INITIALISATIONS == fitting.INITIALISATIONS


def test_linear_tells_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        capsys, "linear", "--data", "diabetes", "--epochs", "700", "-o", str(tmp_path / "a")
    )
    assert code == 0
    assert "largest stable step of gradient descent 0.2520" in err
    assert "held-out R2 0.452603, MSE 2900.19; closed form R2 0.452603, MSE 2900.19" in out
    found = re.search(r"coefficients at most (\S+) apart", out)
    assert found is not None
    assert float(found[1]) < 1e-6


@pytest.mark.parametrize(
    ("more", "options"),
    [
        ([], {"momentum": 0.95, "nesterov": True, "weight_decay": 2 / 455}),
        (["--option", "weight_decay=0"], {"momentum": 0.95, "nesterov": True, "weight_decay": 0}),
        (["--optimizer", "adamw", "--lr", "0.1"], {}),
    ],
)
def test_classes_are_penalised_as_by_scikit_learn(
    tmp_path: Path, more: list[str], options: dict[str, float]
) -> None:
    asked = ["linear", "--data", "breast_cancer", "--epochs", "2", "-o", str(tmp_path / "a")]
    assert main(["train", *asked, *more]) == 0
    assert load(tmp_path / "a").history.settings.options == options


@pytest.mark.parametrize("more", [[], ["--option", "weight_decay=2.5"]])
def test_the_usual_step_of_a_small_table_does_not_swing(tmp_path: Path, more: list[str]) -> None:
    """Where the decay, 2 / n, is a good part of the curvature."""
    noise = np.random.default_rng(1).random((6, 2)) / 100
    table = tmp_path / "a.csv"
    lines = [f"{n / 100 + a},{b},{'qp'[n % 2]}" for n, (a, b) in enumerate(noise)]
    table.write_text("\n".join(["a,b,y", *lines]))
    asked = ["linear", "--data", str(table), "--target", "y", "-o", str(tmp_path / "run")]
    assert main(["train", *asked, "--epochs", "150", *more]) == 0
    costs = [epoch.cost for epoch in load(tmp_path / "run").history.epochs]
    assert costs[-1] <= costs[0]
    np.testing.assert_allclose(costs[-10:], costs[-1], rtol=1e-2)


@pytest.mark.parametrize("decay", ["high", "-1", "nan", "inf"])
def test_a_decay_that_is_none(
    tmp_path: Path, decay: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["linear", "--data", "iris", "--option", f"weight_decay={decay}"]
    code, _, err = run(capsys, *asked, "-o", str(tmp_path / "run"))
    assert code == 2
    assert "edgeport: " in err
    assert "Traceback" not in err


def test_any_optimizer_batch_and_schedule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["linear", "--data", "wine", "--optimizer", "adamw", "--lr", "0.05", "--batch", "1"]
    asked += ["--epochs", "3", "--schedule", "one-cycle", "--option", "betas=0.8,0.9", "--json"]
    code, out, _ = run(capsys, *asked, "-o", str(tmp_path / "a"))
    assert code == 0
    assert json.loads(out)["scores"]["accuracy"] > 0.9
    settings = load(tmp_path / "a").history.settings
    assert (settings.optimizer, settings.batch_size, settings.schedule) == ("adamw", 1, "one-cycle")
    assert settings.options == {"betas": (0.8, 0.9)}  # and none of the default optimizer's


def test_a_checkpoint_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["mlp", "--data", "iris", "--epochs", "3", "--checkpoint", str(tmp_path / "state")]
    assert "going on" not in run(capsys, *asked, "-o", str(tmp_path / "a"))[2]
    code, _, err = run(capsys, *asked, "-o", str(tmp_path / "b"))
    assert code == 0
    assert "state holds the whole training: nothing was left to do\n" in err
    for file in ("weights.safetensors", "run.json", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    code, _, err = run(capsys, *asked, "--seed", "1", "-o", str(tmp_path / "c"))
    assert code == 2
    assert "is of a training with seed 0, this one has 1" in err
    code, _, err = run(capsys, *asked, "--dropout", "0.5", "-o", str(tmp_path / "c"))
    assert code == 2
    assert "is of a training with dropout 0.0, this one has 0.5" in err


def test_a_checkpoint_of_ctrl_c_goes_on_with_the_next_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["mlp", "--data", "iris", "--epochs", "4", "--checkpoint", str(tmp_path / "state")]
    assert run(capsys, *asked, "-o", str(tmp_path / "whole"))[0] == 0
    (tmp_path / "state").unlink()
    usual = Events.tell

    def tell(self: Events, epoch: Epoch, metric: str) -> None:
        usual(self, epoch, metric)
        if epoch.number == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Events, "tell", tell)
        code, _, err = run(capsys, *asked, "-o", str(tmp_path / "part"))
    assert code == 130
    assert "interrupted after 2 of 4 epochs" in err
    assert f"to go on from {tmp_path / 'state'}: the same command with another -o\n" in err
    code, _, err = run(capsys, *asked, "-o", str(tmp_path / "rest"))
    assert code == 0
    assert f"going on with epoch 3 of 4, from {tmp_path / 'state'}\n" in err
    one, other = (tmp_path / name / "weights.safetensors" for name in ("whole", "rest"))
    assert one.read_bytes() == other.read_bytes()


def test_too_little_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["mlp", "--data", "iris", "--hidden", "10000000,10000000"]  # 364 TiB
    code, _, err = run(capsys, *asked, "-o", str(tmp_path / "a"))
    assert code == 2
    assert "the memory is too small for this training: 372,529.0 GiB more" in err
    assert "fix: take fewer examples in a step (--batch-size 16)" in err


def test_what_was_guessed_of_a_table_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, asked = tmp_path / "a.csv", ["--target", "y", "--epochs", "1"]
    table.write_text(
        "a,b,y\n" + "".join(f"{n % 3},{'uv'[n % 2]},{n % 4 // 2}\n" for n in range(40))
    )
    err = run(capsys, "mlp", "--data", str(table), *asked, "-o", str(tmp_path / "a"))[2]
    assert "taken as categories, for there is text in them: 'b' (as 'v')\n" in err
    assert "8 of 8 held-out examples have the inputs of one that is trained on" in err
    assert "'y' holds 2 different whole numbers, taken as values; if they are classes: --cat" in err
    asked += ["--categorical", "y", "--drop", "b"]
    err = run(capsys, "mlp", "--data", str(table), *asked, "-o", str(tmp_path / "b"))[2]
    assert "taken as" not in err


def test_find_lr_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["mlp", "--data", "iris", "--find-lr", "-o", str(tmp_path / "a")]
    code, out, _ = run(capsys, *asked)
    assert code == 0
    assert re.search(r"suggested: --lr \d\.\de-\d\d, a tenth", out)
    assert list(tmp_path.iterdir()) == []


def test_find_lr_suggests_none_where_nothing_is_learned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uphill = ["--optimizer", "SGD", "--option", "maximize=True"]
    asked = ["mlp", "--data", "iris", "--find-lr", *uphill, "-o", str(tmp_path / "a")]
    code, out, _ = run(capsys, *asked)
    assert code == 1
    assert "no learning rate found: the cost fell at none of them; try another --optim" in out
    assert "suggested" not in out


def test_a_warning_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["mlp", "--data", "iris", "--hidden", ",".join(["16"] * 30), "--activation", "sigmoid"]
    code, _, err = run(capsys, *asked, "--epochs", "1", "-o", str(tmp_path / "a"))
    assert code == 0
    assert "warning: vanishing-gradients: that of layers.0 is " in err


def test_without_torchvision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, None)
    image = np.zeros((8, 5, 5, 3), np.uint8)
    np.savez(tmp_path / "a.npz", image=image, label=np.arange(8) % 2)
    asked = ["--data", str(tmp_path / "a.npz"), "--target", "label", "-o", str(tmp_path / "run")]
    code, _, err = run(capsys, "vision:resnet18", *asked)
    assert code == 3
    assert "pip install 'edgeport[vision]'" in err
    code, _, err = run(capsys, "vision:resnet18", *asked, "--resize", "20", "--crop", "30")
    assert code == 2
    assert "--crop 30 from images resized to 20" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["linear", "--data", "nowhere"], "no such data: nowhere"),
        (["linear", "--data", "digits"], "digits is no table"),
        (["cnn", "--data", "iris"], "iris is no set of images"),
        (["mlp", "--data", "iris", "--drop", "x"], "iris has no column 'x'"),
        (["mlp", "--data", "iris", "--optimizer", "sgdd"], "torch.optim has no optimizer 'sgdd'"),
        (["mlp", "--data", "iris", "--option", "x=1"], "AdamW has no option 'x'"),
        (["mlp", "--data", "iris", "--norm", "batch", "--batch", "1"], "has no deviation to norm"),
        (["mlp", "--data", "iris", "--checkpoint", "/"], "/ is a folder, and a file is to be"),
        (["mlp", "--data", "diabetes", "--stratify"], "'target' holds values, and a stratified"),
        (["mlp", "--data", "iris", "--held-out", "0.999"], "150 examples cannot be split"),
    ],
)
def test_what_cannot_be_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, *arguments, "-o", str(tmp_path / "run"))
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["forest"],
            "no model is called 'forest': linear, mlp, cnn, vision, digits, text, word2vec",
        ),
        (
            [],
            "edgeport train: the following arguments are required: MODEL\n"
            "  fix: see edgeport train --help\n",
        ),
        (["mlp", "--data", "iris", "--hidden", "0"], "expected a number of at least 1, got '0'"),
        (["mlp", "--data", "iris", "--batch", "all"], "expected a number of at least 1, got 'all'"),
        (["mlp", "--data", "iris", "--option", "x"], "expected NAME=VALUE, got 'x'"),
        (["mlp", "--data", "iris", "--held-out", "2"], "expected a number between 0 and 1"),
    ],
)
def test_arguments_that_make_no_sense(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", *arguments, "-o", "nowhere"] if arguments else ["train"])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_seed_is_that_of_the_module_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["mlp", "--data", "iris", "--epochs", "1"]
    torch.manual_seed(99)
    assert run(capsys, *asked, "-o", str(tmp_path / "a"))[0] == 0
    torch.manual_seed(98)
    assert run(capsys, *asked, "-o", str(tmp_path / "b"))[0] == 0
    weights = [(tmp_path / n / "weights.safetensors").read_bytes() for n in "ab"]
    assert weights[0] == weights[1]
