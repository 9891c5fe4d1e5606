"""Serve bundles over the Open Inference Protocol v2. Needs the extra ``serve``."""

from edgeport.runtimes.errors import BackendMissingError as _BackendMissingError

try:
    from .http_messages import Limits as TransportLimits
    from .server import Serving, serve
    from .work import Bounds
    from .worker import Settings
except ModuleNotFoundError as e:
    raise _BackendMissingError(
        f"serving needs {e.name!r}, which is not installed",
        remedy="pip install 'edgeport[serve]'",
    ) from e

__all__ = ["Bounds", "Serving", "Settings", "TransportLimits", "serve"]
