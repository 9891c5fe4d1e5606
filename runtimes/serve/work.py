"""One request that waits for a model, and how many may wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from edgeport.runtimes.errors import EdgeportError, InputError
from edgeport.runtimes.inputs import Array

from .requests import InferRequest, InferResponse
from .values import shown

NEVER_NS: Final = 2**63
"""Later than any ``time.monotonic_ns()``."""

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
        run_s: How long one run may take. After that the engine is taken to hang; it is as long as
            TorchServe waits for its workers.
        delay_s: How long to wait for company. Zero is best unless clients are many and slow.
    """

    rows: int = 1024
    size_bytes: int = 2**28
    deadline_s: float = 1.0
    run_s: float = 120.0
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
        deadline_ns: When it will have waited too long to be run.
        client_ns: When its client wants no answer any more.
        is_lost: Whether it was told that there is no answer: one that comes is not counted.
    """

    __slots__ = (
        "arrays",
        "arrived_ns",
        "client_ns",
        "deadline_ns",
        "done",
        "is_lost",
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
        longest_ns: int,
        client_ns: int,
        done: Done,
    ) -> None:
        self.owner = owner
        self.request = request
        self.arrays = arrays
        self.arrived_ns = arrived_ns
        self.client_ns = client_ns
        self.deadline_ns = min(arrived_ns + longest_ns, client_ns)
        self.done: Done | None = done
        self.joins = self.is_lost = False
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


def client_deadline(request: InferRequest, arrived_ns: int) -> int:
    """When its client wants no answer any more, ``time.monotonic_ns()``.

    Raises:
        InputError: Its timeout makes no sense.
    """
    deadline_ns = NEVER_NS
    given = request.parameters.get("timeout") if request.parameters else None
    if given is not None:
        if type(given) is not int or given < 0:
            raise InputError(
                f"the timeout of the request is {shown(given)}, expected microseconds",
                remedy='send {"timeout": 500000}, for example',
            )
        if given:  # 0 is for ever, as for Triton's
            deadline_ns = arrived_ns + given * 1000
    if request.deadline is not None:
        deadline_ns = min(deadline_ns, int(request.deadline * 1e9))
    return deadline_ns
