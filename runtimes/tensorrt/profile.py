"""The sizes that an engine was built for: outside them it computes nothing."""

from collections.abc import Mapping, Sequence

from edgeport.runtimes.errors import InputError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import TensorSpec
from edgeport.runtimes.sizes import sum_of

from .order import Bounds
from .tensors import Tensor


class Profile:
    """An engine's optimisation profile, against which inputs are checked.

    Safe to share between threads: the remembered shapes are replaced, never changed.

    Args:
        inputs: In the order of the arrays.
        shapes: By input with a free dimension.
        values: By input whose elements say how large something is.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        shapes: Mapping[str, Bounds],
        values: Mapping[str, Bounds],
    ) -> None:
        self._shapes = [
            (index, spec, shapes[spec.name])
            for index, spec in enumerate(inputs)
            if spec.name in shapes
        ]
        self._values = [
            (index, spec, values[spec.name])
            for index, spec in enumerate(inputs)
            if spec.name in values
        ]
        self._accepted: list[tuple[int, ...]] | None = None

    @classmethod
    def of(cls, specs: Sequence[TensorSpec], tensors: Sequence[Tensor]) -> "Profile":
        """The profile that an engine has.

        Args:
            specs: Its inputs as the signature names their dimensions.
            tensors: The same inputs as the engine has them.
        """
        return cls(
            specs,
            {each.name: each.shapes for each in tensors if each.shapes is not None},
            {each.name: each.values for each in tensors if each.values is not None},
        )

    def check(self, arrays: Sequence[Array]) -> None:
        """Refuse what the engine was not built for.

        Args:
            arrays: Inputs that fit the signature.

        Raises:
            InputError: A size, or a value that is a size, is outside the profile.
        """
        for index, spec, bounds in self._values:
            _check_values(spec, arrays[index], bounds)
        sizes = [arrays[index].shape for index, _, _ in self._shapes]
        if sizes != self._accepted:
            for index, spec, bounds in self._shapes:
                _check_shape(spec, arrays[index].shape, bounds)
            self._accepted = sizes


def _check_shape(spec: TensorSpec, shape: tuple[int, ...], bounds: Bounds) -> None:
    for axis, (low, size, high) in enumerate(zip(bounds.min, shape, bounds.max, strict=True)):
        if not low <= size <= high:
            follows = sum_of(str(spec.shape[axis]))
            wider = f"{spec.shape[axis]}:{min(low, size)}..{max(high, size)}"
            if follows is not None:
                wider = f"wider ranges of {' and '.join(follows.factors)}"
            raise InputError(
                f"input {spec.name!r} has shape {list(shape)}: axis {axis} is {size}, and the "
                f"engine was built for {low}..{high} (optimisation profile: min "
                f"{list(bounds.min)}, opt {list(bounds.opt)}, max {list(bounds.max)})",
                remedy=f"split or pad it to fit, or export the model again with {wider}",
            )


def _check_values(spec: TensorSpec, array: Array, bounds: Bounds) -> None:
    found = array.reshape(-1).tolist()
    for low, value, high in zip(bounds.min, found, bounds.max, strict=True):
        if not low <= value <= high:
            raise InputError(
                f"the values of input {spec.name!r} are sizes: they are {found}, and the engine "
                f"was built for {list(bounds.min)} to {list(bounds.max)}",
                remedy="export the model again with samples that have such values",
            )
