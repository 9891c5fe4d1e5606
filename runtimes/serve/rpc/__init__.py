"""The Open Inference Protocol over gRPC, on an HTTP/2 of our own. Needs the extra ``grpc``.

One event loop serves this and HTTP/1.1, so that requests of both go through a model together.
Google's server would be the obvious choice, and costs 235 to 526 us of CPU for a fixed reply,
where this takes 151 with the model: docs/log.md has the measurement. What is taken from others
are the encodings: protobuf for messages, hpack for headers.
"""

from edgeport.runtimes.needs import needs as _needs

with _needs("serving gRPC", "grpc"):
    from .connection import Limits as CallLimits
    from .listener import Door

__all__ = ["CallLimits", "Door"]
