import copy
import pickle
import re

import pytest

from edgeport import runtimes
from edgeport.runtimes import EdgeportError, errors

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, EdgeportError)
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@each_kind
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_a_process_boundary(kind: type[EdgeportError], protocol: int) -> None:
    error = kind("a problem: 'é'", remedy="a remedy")
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(again) is kind
        assert (again.problem, again.remedy) == ("a problem: 'é'", "a remedy")
        assert str(again) == "a problem: 'é'\n  fix: a remedy"
        assert again.args == ("a problem: 'é'",)


@each_kind
def test_the_remedy_is_required(kind: type[EdgeportError]) -> None:
    with pytest.raises(TypeError, match="remedy"):
        kind("a problem")  # type: ignore[call-arg]  # what is tested


@each_kind
def test_every_error_is_also_the_builtin_that_fits(kind: type[EdgeportError]) -> None:
    builtins = [base for base in kind.__mro__[1:] if base.__module__ == "builtins"]
    assert builtins[0] is not Exception or kind is EdgeportError
    with pytest.raises(builtins[0], match="a problem"):
        raise kind("a problem", remedy="a remedy")


def test_the_docstring_draws_the_whole_tree() -> None:
    rows = re.findall(r"^ *[*-] (\w+) +(\d|exit)", errors.__doc__ or "", re.MULTILINE)
    drawn = {name: code for name, code in rows if code != "exit"}
    assert drawn == {k.__name__: str(k.exit_code) for k in KINDS if k is not EdgeportError}


def test_every_error_is_public() -> None:
    assert all(getattr(runtimes, kind.__name__) is kind for kind in KINDS)
