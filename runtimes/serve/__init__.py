"""Serve bundles over the Open Inference Protocol v2. Needs the extra ``serve``."""

from edgeport.runtimes.needs import needs as _needs

with _needs("serving", "serve"):
    from .http_messages import Limits as TransportLimits
    from .server import Serving, serve
    from .work import Bounds
    from .worker import Settings

__all__ = ["Bounds", "Serving", "Settings", "TransportLimits", "serve"]
