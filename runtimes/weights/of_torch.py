"""The weights of TorchScript and ``.pt2`` archives, told from their bytes without torch."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final

from edgeport.runtimes.safety.torch_limits import archive_members
from edgeport.runtimes.safety.zip_directory import Member, read_member

from .of_artefact import Weight, c_order
from .torch_pickle import LONGEST_NAME, Elsewhere, Made, told

_STORAGES: Final[Mapping[str, str]] = {  # torch.FloatStorage -> dtype
    f"torch.{name}Storage": dtype
    for name, dtype in (
        ("Float", "float32"), ("Double", "float64"), ("Half", "float16"), ("BFloat16", "bfloat16"),
        ("Byte", "uint8"), ("Char", "int8"), ("Short", "int16"), ("Int", "int32"),
        ("Long", "int64"), ("Bool", "bool"), ("ComplexFloat", "complex64"),
        ("ComplexDouble", "complex128"), ("QInt8", "int8"), ("QUInt8", "uint8"),
        ("QInt32", "int32"), ("Untyped", "uint8"),
    )
}  # fmt: skip  # four to a line

_DTYPES: Final[Mapping[int, str]] = {  # torch._export.serde.schema.ScalarType
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16",
    28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip  # five lines are enough

_MOST_PARTS: Final = 200_000
_DEEPEST: Final = 200
_LONGEST_PATHS: Final = 40_000_000
"""Characters of the paths of all parts together: one dictionary may be held in many places."""

_MOST_TIMES: Final = 4
"""How many times as large as the archive its tensors may be: views of one storage can overlap."""
_MOST_READS: Final = 64
"""How many times it may be read in all: tied weights are one storage under several names."""
_LEAST_READ_BYTES: Final = 2**13
"""What a tensor counts at least: one of torch's own takes hundreds of bytes of the archive."""
_SPARE_BYTES: Final = 2**26
"""Besides: a stride of 0 makes a mask of 4,096 by 4,096 of one number."""
_SPARE_TEXT_BYTES: Final = 2**20


class _Archive:
    def __init__(self, file: IO[bytes], size_bytes: int) -> None:
        self._file = file
        self._members = archive_members(file, size_bytes)
        (self._root,) = {name.partition("/")[0] for name in self._members}
        self._largest = _MOST_TIMES * size_bytes + _SPARE_TEXT_BYTES
        self._left_bytes = _MOST_TIMES * size_bytes + _SPARE_BYTES
        self._left_reads_bytes = _MOST_READS * size_bytes + 4 * _SPARE_BYTES
        self._kept: dict[bytes, bytes] = {}
        self._last: tuple[str, bytes] = ("", b"")
        order = self.read("byteorder") if "byteorder" in self else b"little"
        if order != b"little":
            raise ValueError(f"its bytes are in {order[:20].decode('ascii', 'replace')!r} order")

    def __contains__(self, name: str) -> bool:
        return f"{self._root}/{name}" in self._members

    def read(self, name: str) -> bytes:
        member: Member | None = self._members.get(f"{self._root}/{name}")
        if member is None:
            raise ValueError(f"it has no {name!r}")
        return read_member(self._file, member, self._largest)

    def tensor(
        self,
        place: tuple[str, str],
        dtype: str,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> bytes:
        """A view of a storage, which may be the one of the view before it; equal ones are one."""
        name = "/".join(place)
        if self._last[0] != name:
            self._last = (name, self.read(name))
            self._left_reads_bytes -= len(self._last[1])
        found = c_order(self._last[1], dtype, offset, shape, strides, self._left_bytes)
        self._left_reads_bytes -= max(len(found), _LEAST_READ_BYTES)
        if self._left_reads_bytes < 0:
            raise ValueError("its tensors are many times larger than it")
        kept = self._kept.setdefault(found, found)
        if kept is found:
            self._left_bytes -= len(found)
        return kept


def pt2_weights(file: IO[bytes], size_bytes: int) -> dict[str, Weight]:
    """Parameters, buffers and constants of an exported program, by the names of its state.

    Args:
        file: The ``.pt2`` archive, seekable.
        size_bytes: How long it is.

    Raises:
        ValueError: It is damaged, or holds weights as pickles.
        OSError: It cannot be read.
    """
    archive = _Archive(file, size_bytes)
    found: dict[str, Weight] = {}
    for kind in ("weights", "constants"):
        listed = _json(archive, f"data/{kind}/model_{kind}_config.json")
        for name, entry in _mapping(listed, "config").items():
            if len(name) > LONGEST_NAME:
                raise ValueError(f"a tensor has a name of {len(name)} characters")
            if isinstance(entry, dict) and entry.get("tensor_meta") is not None:
                found[name] = _pt2_weight(archive, name, f"data/{kind}", entry)
    return found


def _pt2_weight(archive: _Archive, name: str, folder: str, entry: dict[str, Any]) -> Weight:
    if entry.get("use_pickle") is not False:
        raise ValueError(f"{name!r} is a pickle, which is not read")
    meta = _mapping(entry, "tensor_meta")
    number = meta.get("dtype")
    if type(number) is not int or number not in _DTYPES:
        raise ValueError(f"{name!r} has the dtype {reprlib.repr(number)}")
    dtype = _DTYPES[number]
    shape, strides = (_numbers(meta.get(key), name) for key in ("sizes", "strides"))
    (offset,) = _numbers([meta.get("storage_offset")], name)
    data = archive.tensor((folder, _file(entry.get("path_name"))), dtype, offset, shape, strides)
    return Weight(name, dtype, shape, data)


def _file(value: Any) -> str:
    if type(value) is not str or len(value) > LONGEST_NAME:
        raise ValueError("a storage has no name")
    return value


def _numbers(value: Any, name: str) -> tuple[int, ...]:
    if isinstance(value, list):
        found: list[Any] = [each.get("as_int") for each in value if isinstance(each, dict)]
        if len(found) == len(value) and all(type(each) is int for each in found):
            return tuple(found)
    raise ValueError(f"the sizes of {name!r} are no numbers")


def _json(archive: _Archive, name: str) -> Any:
    try:
        return json.loads(archive.read(name))
    except RecursionError as e:
        raise ValueError(f"{name!r} nests too deeply") from e


def _mapping(value: Any, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"it has no {key!r}")
    return found


def torchscript_weights(file: IO[bytes], size_bytes: int) -> dict[str, Weight]:
    """Tensors of a TorchScript archive, by the path of the attribute that holds them.

    A frozen module keeps its tensors among the constants of its code: ``constants.0`` and so on, in
    the order in which the code uses them.

    Args:
        file: The archive, seekable.
        size_bytes: How long it is.

    Raises:
        ValueError: It is damaged, or holds what TorchScript does not write.
        OSError: It cannot be read.
    """
    archive = _Archive(file, size_bytes)
    found: dict[str, Weight] = {}
    for folder, start in (("data", ""), ("constants", "constants")):
        if f"{folder}.pkl" in archive:
            for name, tensor in _tensors(told(archive.read(f"{folder}.pkl")), start):
                found[name] = _torchscript_weight(archive, name, folder, tensor)
    return found


def _tensors(value: Any, start: str) -> Iterator[tuple[str, Made]]:
    """Every tensor below a value, and where it is."""
    waiting: list[tuple[str, str | None, int, Any]] = [(start, None, 0, value)]
    parts, characters = 1, 0
    while waiting:
        path, key, depth, each = waiting.pop()
        if key is not None:
            path = f"{path}.{key}" if path else key
        characters += len(path)
        below = _inside(each)
        parts += len(below)
        if parts > _MOST_PARTS or depth > _DEEPEST:
            raise ValueError("its attributes nest too deeply, or are too many")
        if len(path) > LONGEST_NAME or characters > _LONGEST_PATHS:
            raise ValueError("the paths of its attributes are too long")
        if _is_tensor(each):
            yield path, each
        waiting += [(path, name, depth + 1, part) for name, part in reversed(below)]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Made) and value.name.startswith("torch._utils._rebuild_")


def _inside(value: Any) -> list[tuple[str | None, Any]]:
    """The parts of a value by their keys; none for what stands in the place of the whole."""
    if _is_tensor(value):
        return []
    if isinstance(value, Made):  # an object, or a list or dictionary that has a type
        held = value.args[:1] if isinstance(value.args, tuple) else ()
        return [(None, part) for part in (*held, value.state)]
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple):
        return [(str(place), part) for place, part in enumerate(value)]
    return []


def _torchscript_weight(archive: _Archive, name: str, folder: str, tensor: Made) -> Weight:
    try:
        storage, offset, shape, strides = tensor.args[:4]
        kind, made, file = storage.key[:3]
        dtype = _STORAGES.get(made.name, "")
        if len(tensor.args) == 7 and made.name == "torch.UntypedStorage":  # _rebuild_tensor_v3
            dtype = tensor.args[6].name.removeprefix("torch.")
        file = _file(file)
        plain = all(type(n) is int for n in (offset, *shape, *strides))
        known = dtype in _DTYPES.values() and kind == "storage"
        if not (isinstance(storage, Elsewhere) and known and plain):
            raise ValueError("another kind of storage")
    except (AttributeError, LookupError, TypeError, ValueError) as e:
        raise ValueError(f"the tensor {name!r} is stored as torch does not write it: {e}") from e
    shape, strides = tuple(shape), tuple(strides)
    data = archive.tensor((folder, file), dtype, offset, shape, strides)
    return Weight(name, dtype, shape, data)
