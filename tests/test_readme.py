"""The README's commands and code, run from top to bottom in one empty folder.

Code, and lines that are one command of Python's and nothing else, run in this process: in one of
its own each would load torch again, and many the exporters. The shell gets what it is needed for.
"""

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeport.__main__ import main

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
COMMANDS: dict[str, Callable[[list[str]], int]] = {"edgeport": main, "pytest": pytest.main}
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(BLOCKS) >= 7
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    before = {*sys.modules}
    for language, code in BLOCKS:
        file = re.match(r"# (\w+\.py)\n", code)
        if file is not None:  # a file of the user's, used by the next block
            (tmp_path / file[1]).write_text(code)
        elif language == "python":
            exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
        else:
            run(code)
    for name in {*sys.modules} - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == tmp_path:
            del sys.modules[name]


def run(block: str) -> None:
    for alone, lines in itertools.groupby(block.splitlines(), is_one_of_ours):
        if alone:
            for line in lines:
                name, *arguments = shlex.split(line, comments=True)
                assert COMMANDS[name](arguments) == 0, line
            continue
        command = ["bash", "-euo", "pipefail", "-m", "-c", "\n".join(lines)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"


def is_one_of_ours(line: str) -> bool:
    unquoted = re.sub("'.*?'", "", line)
    return line.partition(" ")[0] in COMMANDS and not re.search("[|&;<>$]", unquoted)
