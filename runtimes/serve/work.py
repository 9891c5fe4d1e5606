"""One request that waits for a model, and how many may wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from edgeport.runtimes.errors import EdgeportError
from edgeport.runtimes.inputs import Array

from .requests import InferRequest, InferResponse

Result: TypeAlias = InferResponse | EdgeportError
Done: TypeAlias = Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may wait for one model.

    Attributes:
        rows: Rows, or requests where the model takes no batches. One request may have more.
        size_bytes: Inputs together. One request may have more.
        deadline_s: How long a request may wait before it runs. One that would have to wait longer,
            as far as can be told, is refused at once.
        delay_s: How long to wait for company. Zero is best unless clients are many and slow.
    """

    rows: int = 1024
    size_bytes: int = 2**28
    deadline_s: float = 1.0
    delay_s: float = 0.0


class Queue(Protocol):
    """Where work waits."""

    def forget(self, work: Work) -> None:
        """Nobody wants the answer any more."""
        ...


class Work:
    """One request that waits."""

    __slots__ = (
        "arrays",
        "arrived_ns",
        "deadline_ns",
        "done",
        "key",
        "owner",
        "request",
        "rows",
        "size",
    )

    def __init__(
        self,
        owner: Queue,
        request: InferRequest,
        arrays: list[Array],
        rows: int,
        now_ns: int,
        done: Done,
    ) -> None:
        self.owner = owner
        self.request = request
        self.arrays = arrays
        self.rows = rows
        self.arrived_ns = now_ns
        self.deadline_ns = 0
        self.done: Done | None = done
        self.size = arrays[0].nbytes if len(arrays) == 1 else sum([a.nbytes for a in arrays])
        self.key: object = None  # what must be equal in a batch

    def cancel(self) -> None:
        """Nobody wants the answer: it is not computed unless that has begun."""
        if self.done is not None:
            self.done = None
            self.owner.forget(self)
