"""Torch archives are looked through before torch loads them: loading one can run what is in it.

TorchScript is code by nature; its operators that touch files are refused. A ``.pt2`` file is data
as edgeport writes it: no pickle, operators by name, sizes as expressions; whatever could make
torch unpickle, evaluate or call something else is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any, Final

from .zip_directory import Member, read_directory, read_member

MOST_MEMBERS: Final = 200_000
LARGEST_TEXT_BYTES: Final = 2**27
"""Of one member that is read here: code, or a description. Weights may be as large as they are."""

_FILE_OPERATORS: Final = re.compile(r"\b(\w+)[\s\\]*\.[\s\\]*(save|from_file|load_tensor)\b")
_NAMESPACE: Final = re.compile(r"\bops[\s\\]*\.[\s\\]*(\w+)")
_NAMESPACES: Final = {"aten", "prim", "prims", "quantized", "torchvision"}
_RENAMED: Final = re.compile(r"\bself[\s\\]*=(?!=)")
_ALIAS: Final = re.compile(r"=[\s\\]*ops\b(?![\s\\]*\.)")

_PT2_MEMBERS: Final = re.compile(
    r"data/(weights|constants)/((weight|tensor)_\d+|model_(weights|constants)_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|extra/[\w.-]+"
    r"|archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)"
)
_TARGET: Final = re.compile(
    r"torch\.ops\.(aten|prim|prims|quantized|torchvision|quantized_decomposed)\.(?!from_file|save)"
    r"\w+(\.\w+)?|torch\.ops\.higher_order\.\w+|torch\._?sym_\w+"
    r"|math\.(ceil|floor|trunc|sqrt|pow)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|neg|pos|pow|eq|ne|lt|le|gt|ge|and_|or_|xor"
    r"|not_|getitem|lshift|rshift|abs|index)"
)
_EXPRESSION_PART: Final = re.compile(
    r"(?:Symbol|Integer|Rational|Float|Add|Mul|Pow|Max|Min|Mod|Abs|And|Or|Not|Equality"
    r"|Unequality|GreaterThan|LessThan|StrictGreaterThan|StrictLessThan|FloorDiv|ModularIndexing"
    r"|Where|PythonMod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift|PowByNatural|FloatPow"
    r"|FloatTrueDiv|IntTrueDiv|IsNonOverlappingAndDenseIndicator|TruncToFloat|TruncToInt"
    r"|RoundToInt|RoundDecimal|ToFloat|Identity|Piecewise|ExprCondPair|ITE|Relational)\("
    r"|'\w{1,60}'|'-?\d{1,40}\.\d{1,40}(?:e[+-]?\d{1,3})?'|[a-z_]{1,30}=(?:True|False|\d{1,4})|true|false|True|False|oo|int_oo|[su]\d{1,9}"
    r"|zu?f\d{1,9}|\d{1,40}(?:\.\d{1,40})?(?:e[+-]?\d{1,3})?|[-+*/(), ]"
)


def check_torchscript(file: IO[bytes], size_bytes: int) -> None:
    """Refuse TorchScript that touches files, or is not the archive that it says it is.

    Raises:
        ValueError: So it is.
        OSError: It cannot be read.
    """
    for member in archive_members(file, size_bytes).values():
        if "/code/" in member.name and member.name.endswith(".py"):
            _check_code(_text(file, member), member.name)


def check_pt2(file: IO[bytes], size_bytes: int) -> None:
    """Refuse a ``.pt2`` file that could run code while it is loaded, or call what is no operator.

    Raises:
        ValueError: So it is.
        OSError: It cannot be read.
    """
    members = archive_members(file, size_bytes)
    if sum(member.size_bytes for member in members.values()) > size_bytes:
        raise ValueError("its members are compressed or share bytes, which torch never does")
    for name, member in members.items():
        inside = name.partition("/")[2]
        if not _PT2_MEMBERS.fullmatch(inside):
            raise ValueError(f"it holds {name!r}, which edgeport does not write")
        if inside.startswith("data/sample_inputs/") and member.size_bytes:
            raise ValueError("it holds sample inputs, which torch would unpickle")
        if inside.endswith(".json") and not inside.startswith("extra/"):
            for key, value in _pairs(_json(file, member)):
                _check_pair(key, value, name)


def archive_members(file: IO[bytes], size_bytes: int) -> dict[str, Member]:
    """The members of an archive of torch, by name: ``archive/data.pkl``.

    Raises:
        ValueError: It is no such archive.
        OSError: It cannot be read.
    """
    members = read_directory(file, size_bytes, MOST_MEMBERS)
    roots = {name.partition("/")[0] for name in members}
    if len(roots) != 1 or any(".." in name.split("/") for name in members):
        raise ValueError("it is no archive of torch: its members are not in one folder")
    return members


def _text(file: IO[bytes], member: Member) -> str:
    return read_member(file, member, LARGEST_TEXT_BYTES).decode("utf-8")


def _check_code(code: str, name: str) -> None:
    for found in _FILE_OPERATORS.finditer(code):
        if found[1] != "self" or _RENAMED.search(code):
            raise ValueError(f"{name!r} calls {found[2]!r}, which touches files")
    for found in _NAMESPACE.finditer(code):
        if found[1] not in _NAMESPACES:
            raise ValueError(f"{name!r} calls operators of {found[1]!r}, which edgeport never does")
    if _ALIAS.search(code):
        raise ValueError(f"{name!r} hides which operators it calls")


def _json(file: IO[bytes], member: Member) -> Any:
    try:
        return json.loads(_text(file, member))
    except RecursionError as e:
        raise ValueError(f"{member.name!r} nests too deeply") from e


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield from found.items()
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _check_pair(key: str, value: Any, name: str) -> None:
    if key == "use_pickle" and value is not False:
        raise ValueError(f"{name!r} asks for pickle")
    if key == "target" and isinstance(value, str) and not _TARGET.fullmatch(value):
        raise ValueError(f"{name!r} calls {value[:80]!r}, which is no operator of a model")
    if key == "expr_str" and (not isinstance(value, str) or _EXPRESSION_PART.sub("", value)):
        raise ValueError(f"{name!r} has the size {str(value)[:80]!r}, which torch would evaluate")
