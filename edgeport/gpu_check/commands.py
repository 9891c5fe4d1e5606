"""The commands that people type, each as a process of its own, on the device that is checked.

``verify`` proves in a child with limits, which may write nowhere; ``serve`` forks its workers. No
other stage goes these ways.
"""

from __future__ import annotations

import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import numpy as np

from edgeport.runtimes import Bundle
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.devices import device_kind
from edgeport.runtimes.errors import BackendMissingError, EngineError, StorageError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.safety.fresh import environment

from .child import Figures, LateError, kill
from .tasks import Place

Command: TypeAlias = Literal["verify", "predict", "serve"]

COMMANDS: Final[tuple[Command, ...]] = get_args(Command)

_LIFE: Final = (
    "from edgeport.runtimes.safety.forked import end_with_parent; end_with_parent(); "
    "from edgeport.__main__ import main; raise SystemExit(main())"
)
_URL: Final = re.compile(r"http://\S+")
_NOT_INSTALLED: Final = "edgeport[serve]"
"""In the remedy: the one thing that a check can do without."""


def fits(bundle: Bundle) -> bool:
    """Whether all commands take a model: as many rows as come in, in its own precision."""
    manifest = bundle.manifest
    signature = manifest.signature
    firsts = {spec.shape[:1] for spec in (*signature.inputs, *signature.outputs)}
    narrow = any(manifest.reduced_precision(each) for each in manifest.artefacts)
    return len(firsts) == 1 and () not in firsts and not narrow and bool(_usual(bundle))


def call(command: Command, place: Place, limit_s: float) -> Figures:
    """Run a command on a bundle that fits.

    Args:
        command: Which.
        place: The bundle, and where it is to compute.
        limit_s: After which it is ended.

    Returns:
        What was typed.

    Raises:
        BackendMissingError: There is nothing to serve with.
        LateError: It did not end in time.
        EngineError: It ended with another exit code than 0.
        StorageError: The disk is full.
    """
    deadline = time.monotonic() + limit_s
    where = ["--backend", place.backend, "--device", place.device]
    where += ["--allow-cpu-nodes"] * (device_kind(place.device) == "cuda")
    bundle = str(place.bundle)
    match command:
        case "verify":
            return _run(["verify", bundle, *where], deadline)
        case "predict":
            sample = _usual(Bundle.read(place.bundle))[0]
            with _kept(sample.inputs) as folder:
                given = ["--input", f"{folder}/inputs.npz", "-o", f"{folder}/answers.csv"]
                return _run(["predict", bundle, *given, *where], deadline)
        case "serve":
            with _served([*("serve", bundle, "--port", "0"), *where], deadline) as url:
                return _run(["verify", bundle, "--url", url], deadline)


def _usual(bundle: Bundle) -> list[Golden]:
    return [sample for sample in bundle.golden() if sample.kind in ("real", "random")]


@contextmanager
def _kept(inputs: Mapping[str, Array]) -> Iterator[str]:
    """A folder with a file of inputs in it."""
    try:
        folder = tempfile.TemporaryDirectory()
        np.savez(Path(folder.name, "inputs.npz"), allow_pickle=False, **inputs)
    except OSError as e:
        raise StorageError(
            f"cannot keep the inputs of predict: {e.strerror or e}",
            remedy="make room on the disk, or name another place: TMPDIR",
        ) from e
    with folder as place:
        yield place


def _run(words: Sequence[str], deadline: float) -> Figures:
    with _started(words) as process:
        try:
            _, said = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise LateError.of(f"edgeport {words[0]}") from None
        _see(words, process.returncode, said)
    return {"command": f"edgeport {' '.join(words)}"}


@contextmanager
def _served(words: Sequence[str], deadline: float) -> Iterator[str]:
    """A server that answers; when the block ends, it has to end as it should."""
    with _started(words) as process:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        url = _URL.search(process.stdout.readline()) if ready else None
        if url is None and ready:
            _see(words, process.wait() or 1, process.communicate()[1])
        if url is None:
            raise LateError.of("edgeport serve")
        yield url[0]
        process.send_signal(signal.SIGTERM)
        try:
            _, said = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise LateError.of("edgeport serve, told to end,") from None
        _see(words, process.returncode, said)


@contextmanager
def _started(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _LIFE, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
        process_group=0,  # Ctrl-C is the parent's affair
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            yield process
        finally:
            kill(process)


def _see(words: Sequence[str], code: int, said: str) -> None:
    """Raise what a command ended with."""
    if not code:
        return
    problem, _, remedy = said.strip().rpartition("\n  fix: ")
    problem = (problem or remedy).rpartition("edgeport: ")[2]
    told = f"edgeport {words[0]} ended with exit code {code}: {problem.strip() or 'no word'}"
    kind = BackendMissingError if _NOT_INSTALLED in remedy else EngineError
    typed = f"edgeport {' '.join(words)} --debug shows more"
    raise kind(told, remedy=remedy if remedy and problem else typed)
