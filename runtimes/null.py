"""The null backend: no engine at all, so that tests of everything around one need none.

It opens a ``.null`` file, a JSON signature, and answers zeros of the right shape.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .inputs import Array, InputCheck
from .session import Availability, Closes, EngineInfo, Options, check_signature, closed
from .signature import Signature
from .sizes import names_in, size_at


class NullSession(Closes):
    """Checks its inputs and answers zeros."""

    def __init__(self, signature: Signature, threads: int) -> None:
        self.signature = signature
        self.engine = EngineInfo("null", "null", "1", "none", "none", "none", threads)
        self._check = InputCheck(signature)
        self._open = True

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer zeros; an output dimension that no input has is 1.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: The session is closed.
        """
        if not self._open:
            raise closed()
        sizes: dict[str, int] = {}
        for spec, array in zip(self.signature.inputs, self._check(inputs), strict=True):
            sizes.update(zip(map(str, spec.shape), array.shape, strict=True))
        for name in names_in(size for spec in self.signature.outputs for size in spec.shape):
            sizes.setdefault(name, 1)
        return {
            spec.name: np.zeros([size_at(size, sizes) for size in spec.shape], spec.dtype)
            for spec in self.signature.outputs
        }

    def close(self) -> None:
        """Refuse to run from now on, as every other backend does."""
        self._open = False


def probe() -> Availability:
    """Usable everywhere."""
    return Availability(True, "null", "1", "none")


def open(path: Path, options: Options) -> NullSession:
    """Open a signature written as JSON.

    Raises:
        FormatError: The file is not one.
        ContractError: Its signature is not the one asked for.
    """
    signature = Signature.loads(path.read_bytes(), options.name or str(path))
    check_signature(path, signature, options)
    return NullSession(signature, options.threads or 1)
