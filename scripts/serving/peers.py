"""Other servers with the same model, to be asked in the same session."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final

from edgeport.runtimes import Bundle
from scripts.serving.server import Server, free_port, started
from scripts.serving.wire import Form

_HERE: Final = Path(__file__).parent
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1"}


def start(
    python: str, bundle: Path, folder: Path, stack: ExitStack
) -> Iterator[tuple[str, Form, Server]]:
    """Start MLServer and LitServe; each runs the bundle's ONNX file with one thread.

    Raises:
        RuntimeError: One did not start; its own words are in ``folder``.
    """
    opened = Bundle.read(bundle)
    model = folder / "model.onnx"
    with opened.private(opened.artefact("ort-cpu")) as path:
        model.write_bytes(path.read_bytes())
    name = opened.manifest.name
    yield "MLServer", "json", stack.enter_context(_mlserver(python, name, model, folder))
    yield "LitServe", "litserve", stack.enter_context(_litserve(python, model, folder))


def _mlserver(python: str, name: str, model: Path, folder: Path) -> AbstractContextManager[Server]:
    port, grpc_port, metrics_port = free_port(), free_port(), free_port()
    place = folder / "mlserver"
    place.mkdir()
    settings = {
        "http_port": port,
        "grpc_port": grpc_port,
        "metrics_port": metrics_port,
        "parallel_workers": 0,  # in the server's own process: the fastest for a model this small
        "host": "127.0.0.1",
        "debug": False,
    }
    (place / "settings.json").write_text(json.dumps(settings))
    implementation = {"name": name, "implementation": "peer_mlserver.OnnxModel"}
    parameters = {"parameters": {"uri": str(model)}}
    (place / "model-settings.json").write_text(json.dumps({**implementation, **parameters}))
    source = (_HERE / "peer_mlserver.py").read_text()
    (place / "peer_mlserver.py").write_text(source)
    command = [str(Path(python).parent / "mlserver"), "start", str(place)]
    log = folder / "mlserver.log"
    return started(command, port, environment=_ONE_THREAD, log=log)


def _litserve(python: str, model: Path, folder: Path) -> AbstractContextManager[Server]:
    port = free_port()
    command = [python, str(_HERE / "peer_litserve.py"), str(model), str(port)]
    log = folder / "litserve.log"
    return started(command, port, ready="/health", environment=_ONE_THREAD, log=log)
