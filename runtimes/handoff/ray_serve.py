"""A Ray Serve application: several replicas of one bundle, on one machine or a cluster."""

from pathlib import Path
from typing import Final

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.errors import UsageError
from edgeport.runtimes.files import parents, refuse_existing, write


def emit(bundle: Bundle, path: Path, replicas: int) -> None:
    """Write a Python file that ``serve run`` starts.

    Args:
        bundle: Its files are checked first. The application finds it beside itself.
        path: The file, which must not exist; its name is that of a Python module.
        replicas: Processes, each of which has opened and proved the model for itself.

    Raises:
        UsageError: Python could not import a file of that name, or the bundle has no ONNX.
        ExistingFileError: ``path`` exists.
        MissingFileError: A file of the bundle is not there.
        IntegrityError: A file is not the one that was packed.
        StorageError: ``path`` cannot be written.
    """
    if path.suffix != ".py" or not path.stem.isidentifier() or path.stem in _IMPORTED:
        raise UsageError(
            f"{path.name} is to be imported by Ray, and is no name of a Python module, or is taken",
            remedy="choose one such as -o app.py",
        )
    refuse_existing(path)
    bundle.artefact("ort-cpu")
    bundle.check_files()
    constants = {
        "MODULE": path.stem,
        "BUNDLE": repr(bundle.path.resolve().name),
        "REPLICAS": str(replicas),
    }
    text = _APPLICATION
    for key, value in constants.items():
        text = text.replace(f"<{key}>", value)
    with parents(path):
        write(path, text)


_IMPORTED: Final = ("ray", "starlette", "edgeport")
"""Under such a name the application would import itself."""

_APPLICATION: Final = '''"""A proved model on Ray Serve, by ``edgeport emit ray``; yours to change.

    pip install 'ray[serve]' 'edgeport[ort,serve]'
    serve run <MODULE>:app            # in this folder, with the bundle beside it
    edgeport verify BUNDLE --url http://127.0.0.1:8000

Every replica opens the bundle for itself, and repeats its golden samples before it takes requests.
On a cluster the bundle has to be at the same path on every machine.
"""

from pathlib import Path

from ray import serve
from starlette.requests import Request
from starlette.responses import Response

BUNDLE = Path(__file__).resolve().parent / <BUNDLE>


@serve.deployment(num_replicas=<REPLICAS>)
class Model:
    """Answers requests of the Open Inference Protocol v2."""

    def __init__(self, bundle: str) -> None:
        from edgeport.runtimes.handoff.answers import Answers

        self.answers = Answers(Path(bundle))

    async def __call__(self, request: Request) -> Response:
        path = request.url.path.removeprefix(request.scope.get("root_path", "").rstrip("/"))
        status, headers, body = await self.answers(
            request.method, path, dict(request.headers), await request.body()
        )
        return Response(body, status, dict(headers))


app = Model.bind(str(BUNDLE))
'''
