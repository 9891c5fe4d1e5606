"""The README's commands and code, run from top to bottom in one empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_every_block_runs(tmp_path: Path) -> None:
    assert len(BLOCKS) >= 7
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for language, code in BLOCKS:
        file = re.match(r"# (\w+\.py)\n", code)
        if file is not None:  # a file of the user's, used by the next block
            (tmp_path / file[1]).write_text(code)
            continue
        command = [sys.executable, "-W", "error", "-c", code]
        if language == "sh":
            command = ["bash", "-euo", "pipefail", "-m", "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
