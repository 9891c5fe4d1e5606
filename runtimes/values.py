"""``dataclass(frozen=True, slots=True)`` that costs little to define: a device pays for each start.

The standard library writes seven functions as text for each class and compiles them, about 1 ms a
class, a tenth of the time to the first answer of a small model. Here the classes share their
functions. A type checker, ``fields``, ``asdict`` and ``inspect`` see a dataclass: what only they
need is made when they ask. It is for what ``runtimes.open`` imports; elsewhere use the library's.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

_FACTORIES: Final = "__value_factories__"
_DEFAULTS: Final = "__value_defaults__"
_put: Final = object.__setattr__


class _Factory:
    """What ``field`` leaves in the body of a class."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


class _Later:
    """An attribute of the class that is made by the standard library when somebody asks for it."""

    def __init__(self, take: Callable[[Any], Any]) -> None:
        self._take = take

    def __get__(self, instance: object, owner: type) -> Any:
        import dataclasses

        owner = next(kind for kind in owner.__mro__ if _DEFAULTS in vars(kind))  # not derived ones
        known = {**getattr(owner, _DEFAULTS)}
        for name, make in getattr(owner, _FACTORIES).items():
            known[name] = dataclasses.field(default_factory=make)
        body = {"__annotations__": owner.__annotations__, "__module__": owner.__module__}
        made: Any = dataclasses.dataclass(frozen=True)(type(owner.__name__, (), body | known))
        return self._take(made)


def _signature(kind: type) -> Any:
    import inspect

    return inspect.signature(kind)


def _light(kind: Any) -> Any:
    if kind.__bases__ != (object,):
        raise TypeError(f"{kind.__name__} has ancestors: use the library's dataclass")
    names = tuple(
        name
        for name, hint in kind.__annotations__.items()
        if not str(hint).removeprefix("typing.").startswith("ClassVar")
    )
    body = {
        name: value
        for name, value in vars(kind).items()
        if name not in names and name not in ("__dict__", "__weakref__")
    }
    given = {name: vars(kind)[name] for name in names if name in vars(kind)}
    if tuple(given) != names[len(names) - len(given) :]:
        raise TypeError(f"{kind.__name__} has a field without a default after one that has one")
    factories = {n: found.make for n, found in given.items() if isinstance(found, _Factory)}
    body |= {
        "__slots__": names,
        "__match_args__": names,
        "__qualname__": kind.__qualname__,
        _FACTORIES: factories,
        _DEFAULTS: {n: found for n, found in given.items() if n not in factories},
        "__dataclass_fields__": _Later(lambda made: made.__dataclass_fields__),
        "__dataclass_params__": _Later(lambda made: made.__dataclass_params__),
        "__signature__": _Later(_signature),
    }
    return type(kind)(kind.__name__, kind.__bases__, _SHARED | body)


def _init(self: Any, *args: Any, **named: Any) -> None:
    kind = type(self)
    names: tuple[str, ...] = kind.__match_args__
    if len(args) > len(names):
        raise TypeError(f"{kind.__name__} takes {len(names)} arguments, and {len(args)} were given")
    for name, value in zip(names, args, strict=False):
        _put(self, name, value)
    defaults, factories = getattr(kind, _DEFAULTS), getattr(kind, _FACTORIES)
    for name in names[len(args) :]:
        if name in named:
            value = named.pop(name)
        elif name in defaults:
            value = defaults[name]
        elif name in factories:
            value = factories[name]()
        else:
            raise TypeError(f"{kind.__name__} is missing the argument {name!r}")
        _put(self, name, value)
    if named:
        raise TypeError(f"{kind.__name__} got {next(iter(named))!r} twice, or has no such argument")
    finish = getattr(kind, "__post_init__", None)
    if finish is not None:
        finish(self)


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name in type(self).__match_args__)


def _repr(self: Any) -> str:
    told = (f"{name}={getattr(self, name)!r}" for name in type(self).__match_args__)
    return f"{type(self).__qualname__}({', '.join(told)})"


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _refuse(self: object, name: str, *_: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot change the field {name!r}")


def _replaced(self: Any, **changes: Any) -> Any:
    kind = type(self)
    return kind(**dict(zip(kind.__match_args__, _values(self), strict=True)) | changes)


def _set_state(self: Any, state: tuple[Any, ...]) -> None:
    for name, value in zip(type(self).__match_args__, state, strict=True):
        _put(self, name, value)


_SHARED: Final[dict[str, Any]] = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
    "__replace__": _replaced,
    "__getstate__": _values,
    "__setstate__": _set_state,
}

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
else:

    def dataclass(*, frozen, slots):
        """As ``dataclasses.dataclass``, for frozen classes with slots and no ancestors."""
        assert frozen and slots  # noqa: PT018  # the only ones there are
        return _light

    def field(*, default_factory):
        """As ``dataclasses.field``."""
        return _Factory(default_factory)

    def replace(value, **changes):
        """As ``dataclasses.replace``, for these and those of the library."""
        kind = type(value)
        return kind(**{n: getattr(value, n) for n in kind.__match_args__} | changes)
