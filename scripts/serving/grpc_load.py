"""Load over gRPC: Google's own client, which costs more than the server it asks."""

import asyncio
import time
from importlib import import_module
from typing import Any, Final

import uvloop

from scripts.serving.load import Outcome
from scripts.serving.wire import Requests

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
_HTTP: Final = {"OK": 200, "RESOURCE_EXHAUSTED": 503, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504}


def closed_loop(address: str, requests: Requests, connections: int, seconds: float) -> Outcome:
    """Ask over so many connections, one call at a time on each; statuses as HTTP's."""
    return uvloop.run(_closed_loop(address, requests, connections, seconds))


async def _closed_loop(
    address: str, requests: Requests, connections: int, seconds: float
) -> Outcome:
    grpc: Any = import_module("grpc")
    options = [("grpc.use_local_subchannel_pool", 1)]  # else all channels share one connection
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(connections)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    outcome = Outcome()
    start_ns = time.perf_counter_ns()
    stop_ns = start_ns + int(seconds * 1e9)

    async def ask(number: int, infer: Any) -> None:
        while (sent_ns := time.perf_counter_ns()) < stop_ns:
            index = number % len(requests.sent)
            number += 1
            try:
                body = await infer(requests.sent[index])
            except grpc.RpcError as e:
                outcome.statuses[_HTTP.get(e.code().name, 500)] += 1
                continue
            outcome.statuses[200] += 1
            if requests.is_right(index, b"", body):
                outcome.latencies_ns.append(time.perf_counter_ns() - sent_ns)
            else:
                outcome.wrong += 1

    await asyncio.gather(
        *(ask(number, channel.unary_unary(INFER)) for number, channel in enumerate(channels))
    )
    outcome.seconds = (time.perf_counter_ns() - start_ns) / 1e9
    await asyncio.gather(*(channel.close() for channel in channels))
    return outcome
