import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeport.runtimes import cpus
from edgeport.runtimes.cpus import available_cpus


def test_cpus_are_those_this_process_may_use() -> None:
    assert 1 <= available_cpus() <= len(os.sched_getaffinity(0))
    code = (
        "import os; from edgeport.runtimes.cpus import available_cpus\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(available_cpus())"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "1\n"


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("0::/", {}, 8),
        ("0::/", {"": "max 100000\n"}, 8),
        ("0::/", {"": "400000 100000\n"}, 4),
        ("0::/", {"": "1000 100000\n"}, 1),
        ("0::/", {"": "250000 100000"}, 2),
        ("0::/", {"": "junk"}, 8),
        ("0::/", {"": "100000 0"}, 8),
        ("0::/a/b", {"a/b": "max 100000", "a": "300000 100000", "": "900000 100000"}, 3),
        ("1:cpu:/a\n0::/b", {"b": "200000 100000", "a": "100000 100000"}, 2),
        ("1:cpu:/a", {"": "200000 100000"}, 2),
        ("", {"": "200000 100000"}, 2),
    ],
)
def test_a_quota_counts_as_cpus(
    own: str, limits: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cgroup"
    for group, text in limits.items():
        (root / group).mkdir(parents=True, exist_ok=True)
        (root / group / "cpu.max").write_text(text)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(cpus, "_CGROUPS", root)
    monkeypatch.setattr(cpus, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert available_cpus() == expected
