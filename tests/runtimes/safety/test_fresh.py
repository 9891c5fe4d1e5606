import random
import subprocess
from pathlib import Path

import pytest

from edgeport.runtimes.safety.fresh import started


def test_nothing_is_taken_from_the_folder_one_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("random.py").write_text("raise SystemExit('of the folder')")
    life = (
        "import random; from multiprocessing.connection import Connection; "
        "Connection({}).send(random.__file__)"
    )
    process, connection = started(life, stdout=subprocess.DEVNULL)
    assert connection.recv() == random.__file__
    assert process.wait() == 0
