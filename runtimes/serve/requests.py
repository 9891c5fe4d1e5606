"""What is asked of a model, and what it answers: the same for every transport."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from edgeport.runtimes.inputs import Array

Parameter: TypeAlias = bool | int | float | str

NO_PARAMETERS: Final[Mapping[str, Parameter]] = {}

DATATYPES: Final[Mapping[str, str]] = {  # numpy's name -> the protocol's
    "bool": "BOOL",
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "object": "BYTES",
}

NUMPY: Final[Mapping[str, np.dtype[np.generic]]] = {
    datatype: np.dtype(dtype) for dtype, datatype in DATATYPES.items()
}
"""The protocol's name -> numpy's dtype; BF16 is not there, because no signature can have it."""

DATATYPE_OF: Final[Mapping[np.dtype[np.generic], str]] = {
    dtype: datatype for datatype, dtype in NUMPY.items()
}


class Wanted(NamedTuple):
    """An output that is asked for.

    Attributes:
        name: One of the model's.
        classes: 0 for the numbers; K for the K largest along the last axis, as BYTES
            ``"value:index"``, or ``"value:index:label"`` where the bundle knows labels.
    """

    name: str
    classes: int = 0


class InferRequest(NamedTuple):
    """One inference. A tuple, because one is made per request.

    Attributes:
        model: Its name.
        inputs: By name; native byte order. BYTES are arrays of dtype object that hold ``bytes``.
        version: Empty for the newest one that is ready.
        outputs: What to answer, in order; empty for all.
        id: Sent back.
        parameters: Of the request. ``timeout`` is read: microseconds that it may wait.
        deadline: ``time.monotonic()`` after which nobody wants the answer; ``None`` to leave it
            to the server's own limit.
    """

    model: str
    inputs: Mapping[str, Array]
    version: str = ""
    outputs: Sequence[Wanted] = ()
    id: str = ""
    parameters: Mapping[str, Parameter] = NO_PARAMETERS
    deadline: float | None = None


class InferResponse(NamedTuple):
    """The answer to one inference.

    Attributes:
        model: Its name.
        version: The one that computed it.
        outputs: By name, in the order that was asked for; BYTES as in a request.
        id: The request's.
    """

    model: str
    version: str
    outputs: Mapping[str, Array]
    id: str
