"""The Open Inference Protocol over gRPC, on an HTTP/2 of our own. Needs the extra ``grpc``.

One event loop serves this and HTTP/1.1, so that requests of both go through a model together.
Google's server would be the obvious choice, and costs 235 to 526 us of CPU for a fixed reply,
where this takes 151 with the model: docs/log.md has the measurement. What is taken from others
are the encodings: protobuf for messages, hpack for headers.
"""

from edgeport.runtimes.errors import BackendMissingError as _BackendMissingError

try:
    from .connection import Limits as CallLimits
    from .listener import Door
except ModuleNotFoundError as e:
    raise _BackendMissingError(
        f"serving gRPC needs {e.name!r}, which is not installed",
        remedy="pip install 'edgeport[grpc]'",
    ) from e

__all__ = ["CallLimits", "Door"]
