"""One request that waits for a model, and how many may wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from edgeport.runtimes.errors import EdgeportError, InputError
from edgeport.runtimes.inputs import Array

from .requests import InferRequest, InferResponse
from .values import shown

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
    """One request that waits.

    Attributes:
        key: What must be equal in a batch.
        joins: Whether it may run with the one that waits before it.
    """

    __slots__ = (
        "arrays",
        "arrived_ns",
        "deadline_ns",
        "done",
        "joins",
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
        batches: bool,
        arrived_ns: int,
        deadline_ns: int,
        done: Done,
    ) -> None:
        self.owner = owner
        self.request = request
        self.arrays = arrays
        self.arrived_ns = arrived_ns
        self.deadline_ns = deadline_ns
        self.done: Done | None = done
        self.joins = False
        self.key: object = None
        self.rows = 1
        if len(arrays) == 1:
            (array,) = arrays
            self.size = array.nbytes
            if batches:
                self.rows, self.key = len(array), array.shape[1:]
        else:
            self.size = sum([array.nbytes for array in arrays])
            if batches:
                self.rows, self.key = len(arrays[0]), [array.shape[1:] for array in arrays]

    def cancel(self) -> None:
        """Nobody wants the answer: it is not computed unless that has begun."""
        if self.done is not None:
            self.done = None
            self.owner.forget(self)


def deadline_of(request: InferRequest, arrived_ns: int, longest_ns: int) -> int:
    """When it will have waited too long, ``time.monotonic_ns()``: for the server or for its client.

    Raises:
        InputError: Its timeout makes no sense.
    """
    deadline_ns = arrived_ns + longest_ns
    given = request.parameters.get("timeout") if request.parameters else None
    if given is not None:
        if type(given) is not int or given < 0:
            raise InputError(
                f"the timeout of the request is {shown(given)}, expected microseconds",
                remedy='send {"timeout": 500000}, for example',
            )
        if given:  # 0 is for ever, as for Triton's
            deadline_ns = min(deadline_ns, arrived_ns + given * 1000)
    if request.deadline is not None:
        deadline_ns = min(deadline_ns, int(request.deadline * 1e9))
    return deadline_ns
