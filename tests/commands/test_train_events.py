from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edgeport.__main__ import main
from edgeport.training import load


def test_tensorboard_reads_what_the_run_holds(tmp_path: Path) -> None:
    asked = ["train", "mlp", "--data", "iris", "--epochs", "4", "-o", str(tmp_path / "run")]
    assert main([*asked, "--tensorboard", str(tmp_path / "events")]) == 0
    history = load(tmp_path / "run").history
    read: Any = EventAccumulator(str(tmp_path / "events"))
    read.Reload()
    for title, name in {
        "cost/training": "cost",
        "cost/held out": "held_out_cost",
        "held out/accuracy": "held_out_score",
        "learning rate": "learning_rate",
    }.items():
        found = [(event.step, event.value) for event in read.Scalars(title)]
        assert found == [
            (epoch.number, pytest.approx(getattr(epoch, name), rel=1e-6))
            for epoch in history.epochs
        ]
    layer, value = next(iter(history.norms[0].gradient.items()))
    assert read.Scalars(f"gradient/{layer}")[0].value == pytest.approx(value, rel=1e-6)


def test_a_full_disk_is_told(
    tmp_path: Path, full_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (full_disk / "events").mkdir()
    (full_disk / "filling").write_bytes(bytes(60_000))
    asked = ["train", "mlp", "--data", "iris", "--epochs", "400", "-o", str(tmp_path / "run")]
    assert main([*asked, "--tensorboard", str(full_disk / "events")]) == 3
    err = capsys.readouterr().err
    assert f"edgeport: cannot write {full_disk / 'events'}: No space left on device" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
