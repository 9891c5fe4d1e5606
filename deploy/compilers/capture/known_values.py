"""Values that hang on no input: what forward reads of them is as fixed as a weight.

torch knows the values of tensors of one element that ``torch.tensor`` makes, and takes all others
for unknown (2.13): ``if self.is_initialised:``, ``self.kernel[0] == 1``, the least value of a
window that forward makes anew in each call.
"""

import contextlib
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, Final, TypeVar
from unittest import mock

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses import fake_impls, fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorConverter, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._mode_utils import no_dispatch

from edgeport.deploy.compilers.operators.symbols import SYMBOLS

from .few_values import FewValues

T = TypeVar("T")

_MOST: Final = 2**20
"""Elements: they are kept and computed with beside what is captured."""


_FEW: Final = 1024
"""Elements of a parameter: temperatures and thresholds are asked, matrices are not."""


class SizeInTensorError(TypeError):
    """Forward decides by what it makes of a free size in tensors, where no symbol is seen."""


def with_known_values(module: nn.Module, capture: Callable[[], T]) -> T:
    """Capture where what a module holds, or makes without inputs, may decide what forward does.

    Those that forward writes to are unknown, as are sizes of results (``nonzero``), which whoever
    takes the program apart later does not know.

    Args:
        module: What is captured.
        capture: Runs it on tensors without values.

    Raises:
        SizeInTensorError: What decides is made of a size, and of nothing else that is free.
        Exception: Whatever capturing raises.
    """
    kept = [(each, each.clone()) for each in _kept(module) if each.numel() <= _MOST]
    from torch.fx.experimental import symbolic_shapes  # loads sympy

    symbols: set[Any] = set()
    try:
        with _known({id(tensor): value for tensor, value in kept}, symbols):
            program = capture()
    except symbolic_shapes.GuardOnDataDependentSymNode as e:
        if symbolic_shapes.free_unbacked_symbols(e.cond) <= symbols:
            raise SizeInTensorError("a number that is made of a free size in tensors") from e
        raise
    is_known = all(torch.equal(*pair) for pair in kept)
    return program if is_known else capture()


def _kept(module: nn.Module) -> Iterator[Tensor]:
    """Buffers, tensors that are plain attributes, and parameters that are no matrix of weights."""
    yield from module.buffers()
    yield from (each for each in module.parameters() if each.numel() <= _FEW)
    for layer in module.modules():
        yield from (each for each in vars(layer).values() if isinstance(each, Tensor))


@contextlib.contextmanager
def _known(values: dict[int, Tensor], symbols: set[Any]) -> Iterator[None]:
    """Tell what is known; the symbols are of numbers that are made of sizes alone."""
    convert: Any = FakeTensorConverter.from_real_tensor
    dispatch: Any = FakeTensorMode.dispatch
    few = FewValues()

    def from_real_tensor(converter: Any, mode: Any, tensor: Tensor, **options: Any) -> Any:
        fake = convert(converter, mode, tensor, **options)
        if id(tensor) in values:
            _tell(converter, fake, values[id(tensor)])
        return fake

    def dispatched(mode: Any, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        known = [each for each in pytree.arg_tree_leaves(*args, **options) if _is_known(each)]
        for each in filter(_is_known, _listed_and_written(function, args)):
            mode.fake_tensor_converter.invalidate_constant_aliases(each.constant)
        few.forget(function, args, options)
        sized = torch.Tag.dynamic_output_shape in getattr(function, "tags", ())
        with _unknown(known if sized else []):
            result = dispatch(mode, function, types, args, options)
        if _makes(function, args, options, result):
            with no_dispatch():
                _tell(mode.fake_tensor_converter, result, function(*args, **options))
        elif known and _may_share(function, result):
            for each in filter(_is_known, known):  # a write into the result would not be seen
                mode.fake_tensor_converter.invalidate_constant_aliases(each.constant)
        with no_dispatch():
            value = few.follow(function, args, options, result)
        if value is not None and not _is_known(result):
            _tell(mode.fake_tensor_converter, result, value)
        is_of_sizes = _is_of_sizes(function, args, options, result, symbols)
        if isinstance(result, FakeTensor):
            setattr(result, _OF_SIZES, is_of_sizes)  # a kernel's own may have been made of them
        elif is_of_sizes and isinstance(result, SYMBOLS):
            symbols.update(result.node.expr.free_symbols)
        return result

    with (
        mock.patch.object(fake_tensor, "CONSTANT_NUMEL_LIMIT", _MOST),
        mock.patch.object(FakeTensorConverter, "from_real_tensor", from_real_tensor),
        mock.patch.object(FakeTensorMode, "dispatch", dispatched),
    ):
        yield


def _is_known(value: object) -> bool:
    return isinstance(value, FakeTensor) and value.constant is not None


def _tell(converter: Any, fake: Any, value: Tensor) -> None:
    fake.constant = value
    converter.add_constant_storage_mapping(fake)


@contextlib.contextmanager
def _unknown(tensors: list[Any]) -> Iterator[None]:
    """Nothing is known of some tensors meanwhile."""
    values = [each.constant for each in tensors]
    for each in tensors:
        each.constant = None
    try:
        yield
    finally:
        for each, value in zip(tensors, values, strict=True):
            each.constant = value


def _makes(function: Any, args: Any, options: Any, result: Any) -> bool:
    """Whether an operator makes values out of numbers alone, always the same."""
    return (
        isinstance(function, OpOverload)
        and fake_impls._is_tensor_constructor(function)
        and torch.Tag.nondeterministic_seeded not in function.tags
        and "empty" not in function._schema.name
        and isinstance(result, FakeTensor)
        and result.constant is None
        and not result._has_symbolic_sizes_strides
        and result.numel() <= _MOST
        and not any(isinstance(each, SYMBOLS) for each in pytree.arg_tree_leaves(*args, **options))
    )


def _listed_and_written(function: Any, args: Any) -> Iterator[Any]:
    """Tensors in lists that an operator writes to, of which torch forgets nothing (2.13)."""
    if isinstance(function, OpOverload):
        for argument, value in zip(function._schema.arguments, args, strict=False):
            if argument.is_write and isinstance(value, list | tuple):
                yield from value


def _may_share(function: Any, result: Any) -> bool:
    """Whether a result of unknown values may be a view of what an operator was given."""
    schema = getattr(function, "_schema", None)
    is_view = schema is None or any(each.alias_info for each in schema.returns)
    return is_view and not all(map(_is_known, pytree.tree_leaves(result)))


def _is_of_sizes(
    function: Any, args: Any, options: Any, result: Any, symbols: AbstractSet[Any]
) -> bool:
    """Whether a number, as a tensor or not, hangs on sizes and on known values alone."""
    if isinstance(result, Tensor) and (result.dim() > 0 or _is_known(result)):
        return False
    leaves = pytree.arg_tree_leaves(*args, **options)
    given = [each for each in leaves if isinstance(each, FakeTensor)]
    is_random = torch.Tag.nondeterministic_seeded in getattr(function, "tags", ())
    if is_random or any(_unbacked(each) - symbols for each in leaves if isinstance(each, SYMBOLS)):
        return False
    return all(_is_known(each) or getattr(each, _OF_SIZES, False) for each in given)


def _unbacked(number: Any) -> AbstractSet[Any]:
    """Symbols of values: ``round(v, 1)`` of an item is computed in tensors too."""
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    return free_unbacked_symbols(number)


_OF_SIZES: Final = "edgeport_of_sizes"
