"""The counters in the text format of Prometheus.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from . import counters as c
from .repository import Entry, Repository

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_OUTCOMES: Final = {
    "success": c.SUCCESS,
    "failed": c.FAILED,
    "rejected": c.REJECTED,
    "shed": c.SHED,
    "expired": c.EXPIRED,
    "abandoned": c.LEFT,
}
_BATCH_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128)

_Value = Callable[[Sequence[int]], float]
_SIMPLE: Final[tuple[tuple[str, str, str, _Value], ...]] = (
    ("rows_total", "counter", "Rows that were computed.", lambda t: t[c.ROWS]),
    ("executions_total", "counter", "Calls of the engine.", lambda t: t[c.EXECUTIONS]),
    ("queue_seconds_total", "counter", "Time that requests waited.", lambda t: t[c.QUEUE_NS] / 1e9),
    ("compute_seconds_total", "counter", "Time in the engine.", lambda t: t[c.INFER_NS] / 1e9),
    ("queue_rows", "gauge", "Rows that wait.", lambda t: t[c.QUEUED_ROWS]),
    ("queue_bytes", "gauge", "Bytes of inputs that wait.", lambda t: t[c.QUEUED_BYTES]),
)


def render(repository: Repository, backend: str) -> bytes:
    """Write all metrics.

    Args:
        repository: Whose models; the figures are of all processes.
        backend: A label of each.
    """
    rows = [
        (_labels(entry, backend), entry, repository.board.total(entry.slot))
        for entry in repository.entries()
    ]
    lines = [*_head("model_ready", "gauge", "Whether the model answers.")]
    lines += [
        f"edgeport_model_ready{{{at}}} {int(e.condition()[0] == 'READY')}" for at, e, _ in rows
    ]
    lines += _head("requests_total", "counter", "Requests by what became of them.")
    for at, _, total in rows:
        for outcome, index in _OUTCOMES.items():
            lines.append(f'edgeport_requests_total{{{at},outcome="{outcome}"}} {total[index]}')
    for name, kind, text, value in _SIMPLE:
        lines += _head(name, kind, text)
        lines += [f"edgeport_{name}{{{at}}} {value(total)}" for at, _, total in rows]
    lines += _head("request_seconds", "histogram", "From the body's last byte to the answer.")
    for at, _, total in rows:
        counts = total[c.LATENCY : c.LATENCY + len(c.BOUNDS_S) + 1]
        lines += _histogram("request_seconds", at, c.BOUNDS_S, counts, total[c.SUCCESS_NS] / 1e9)
    lines += _head("batch_rows", "histogram", "Rows in one call of the engine.")
    for at, _, total in rows:
        sizes = total[c.BATCHES : c.BATCHES + c.MOST_BATCH + 2]
        starts = (0, *(bound + 1 for bound in _BATCH_BOUNDS))
        counts = [sum(sizes[a:b]) for a, b in zip(starts, (*starts[1:], len(sizes)), strict=True)]
        lines += _histogram("batch_rows", at, _BATCH_BOUNDS, counts, total[c.ROWS])
    return ("\n".join(lines) + "\n").encode()


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP edgeport_{name} {text}", f"# TYPE edgeport_{name} {kind}"]


def _histogram(
    name: str, at: str, bounds: Sequence[float], counts: Sequence[int], total: float
) -> Iterator[str]:
    for bound, count in zip((*map(str, bounds), "+Inf"), accumulate(counts), strict=True):
        yield f'edgeport_{name}_bucket{{{at},le="{bound}"}} {count}'
    yield f"edgeport_{name}_sum{{{at}}} {total}"
    yield f"edgeport_{name}_count{{{at}}} {sum(counts)}"


def _labels(entry: Entry, backend: str) -> str:
    named = {"model": entry.name, "version": entry.version, "backend": backend}
    return ",".join(f'{key}="{_escaped(value)}"' for key, value in named.items())


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
