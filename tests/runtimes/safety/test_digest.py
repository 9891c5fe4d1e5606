"""The hash that opening a bundle needs: the same as hashlib's, and light for a small file."""

import hashlib
import importlib
import subprocess
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes.safety.digest import SMALL_BYTES, sha256


@given(st.lists(st.binary(max_size=200)), st.sampled_from([0, SMALL_BYTES, SMALL_BYTES + 1]))
def test_it_is_sha256(parts: list[bytes], size_bytes: int) -> None:
    digest = sha256(size_bytes)
    for part in parts:
        digest.update(memoryview(part))
    assert digest.hexdigest() == hashlib.sha256(b"".join(parts)).hexdigest()


def test_a_small_file_needs_no_openssl() -> None:
    code = (
        "import sys; from edgeport.runtimes.safety.digest import *; sha256(1).hexdigest()\n"
        "assert '_hashlib' not in sys.modules; sha256(SMALL_BYTES + 1)\n"
        "assert '_hashlib' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_python_without_its_own_takes_openssls(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    assert type(sha256(1)) is type(hashlib.sha256())
