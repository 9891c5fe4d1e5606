from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rpc_served import Make, Server

    from edgeport.runtimes.serve.rpc import CallLimits
    from edgeport.runtimes.serve.work import Bounds


@pytest.fixture
def make(packed: Path) -> Iterator[Make]:
    """Starts a gRPC port that serves a model, and ends it with the test."""
    from rpc_served import Server  # needs grpc, which other tests here do not

    made: list[Server] = []

    def start(
        bounds: Bounds | None = None, limits: CallLimits | None = None, control: bool = False
    ) -> Server:
        made.append(Server(packed, bounds, limits, control=control))
        return made[-1]

    yield start
    for server in made:
        server.stop()
        server.join()
