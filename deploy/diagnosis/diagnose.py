"""What happened, where, and what to do: a compiler's exception in words for the user.

``rules`` recognises it, ``places`` finds it, ``remedies`` says what to do.
"""

import ast
import contextlib
import dataclasses
import linecache
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from torch import nn

from edgeport.deploy.sources.raised import INTERPRETED, words
from edgeport.runtimes import ContractError, EdgeportError, ParityError

from .places import Line, Map, Place, chain, frames_of
from .remedies import (
    LARGEST,
    LOOP,
    ONE_WAY,
    OTHER_DTYPE,
    PACKED,
    REMEDIES,
    REPEATED,
    SMALLEST,
    STEP,
    Family,
    operator_remedy,
)
from .rules import DECIDING_PROBLEM, OPERATORS, PACKED_PROBLEM, RULES, Rule
from .specialisation import dimension_names, fixing_place

_LONGEST_PROBLEM: Final = 200
_MULTIPLE: Final = re.compile(
    r"Not all values of (\w+) = .* guard \(\S+\.size\(\)\[\d+\] % (\d+)\) [!=]= 0"
)
"""What torch.export says of ``if x.shape[1] % 2 == 0``."""
_BETWEEN: Final = re.compile(
    r"Not all values of (\w+) = .* in the specified range (?:(?:(\d+) <= )?\w+(?: <= (\d+))? )?"
    r"satisfy the generated guard (\d+) <= \S+ and \S+ <= (\d+)?"
)
"""And of ``table[: x.shape[1]]``: both ends of what was declared, and of what is left."""
_ASKED: Final = re.compile(r"AskedSizeError: (.+) is asked, which not all sizes answer alike")
_STEPS: Final = re.compile(r"\b\d+\*(?=[^\W\d])")
"""In what torch.export calls a dimension of a step: 4*height."""
_REPEATED: Final = re.compile(r"(?<![\w\])])\[\w[\w.]*\] ?\* ?\w")
_LOOPS: Final = ("for ", "while ")
_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Why a compiler refused a module.

    Attributes:
        family: Of failures with one remedy: a value of ``Family``.
        problem: One line.
        layer: Path and class: ``encoder.layers.3.self_attn (MultiheadAttention)``.
        operator: As ``aten.median.dim``.
        source: The user's own line: ``model.py:42  x = x.median(1).values``.
        remedy: What to do.
    """

    family: str
    problem: str
    remedy: str
    layer: str | None = None
    operator: str | None = None
    source: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """As a JSON object."""
        return dataclasses.asdict(self)


def diagnose(error: BaseException, module: nn.Module) -> Diagnosis:
    """Explain an exception, in the process in which a compiler raised it.

    Args:
        error: With its traceback and its causes alive.
        module: What was compiled: a wrapper whose attribute ``module`` is the user's module.

    Returns:
        The best that is known; of family ``unknown`` where nothing is. It never raises.
    """
    try:
        return _diagnosis(error, module)
    except Exception:  # the user still gets the compiler's own words
        return Diagnosis(
            family=Family.UNKNOWN, problem=_first_line(error), remedy=REMEDIES[Family.UNKNOWN]
        )


def _diagnosis(error: BaseException, module: nn.Module) -> Diagnosis:
    if isinstance(error, EdgeportError):
        return _of_ours(error)
    layers = Map(module)
    place = _place(layers, error)
    texts = [_text(one) for one in chain(error)]
    rule, groups = _match(texts) or _unmatched(place)
    if rule.family is Family.DIMENSION:
        groups = tuple(_STEPS.sub("", group) for group in groups)
        fixing = fixing_place(error, module, layers)
        place = fixing if fixing.line else place
    if rule.family is Family.OUTPUT:
        place = layers.root  # forward has returned
    operator = _operator(texts)
    rule = _refined(rule, error, texts, place, operator)
    named = {"operator": operator or "an operator", "first": _first_line(error)}
    problem = rule.problem.format(*groups, **named)
    return Diagnosis(
        family=rule.family,
        problem=_ADDRESS.sub("", problem)[:_LONGEST_PROBLEM].rstrip(": "),
        remedy=rule.remedy or REMEDIES[rule.family],
        layer=place.layer,
        operator=operator,
        source=None if place.line is None else str(place.line),
    )


def _place(layers: Map, error: BaseException) -> Place:
    try:
        return layers.place(error)
    except Exception:  # torch's own frames are looked into, and may change
        return Place()


def _refined(
    rule: Rule, error: BaseException, texts: Sequence[str], place: Place, operator: str | None
) -> Rule:
    """What the text alone does not tell."""
    recurrent = place.kind is not None and issubclass(place.kind, nn.RNNBase)
    if rule.family is Family.SIZE and recurrent:
        return Rule(Family.RECURRENT, "", PACKED_PROBLEM, PACKED)
    if rule.family is Family.SIZE and _decides(texts, place.line):
        return Rule(Family.CONTROL_FLOW, "", DECIDING_PROBLEM)
    if rule.family is Family.DIMENSION:
        who = "a recurrent layer" if recurrent else "forward"
        family = Family.RECURRENT if recurrent else Family.DIMENSION
        if (allowed := _allowed("\n".join(texts), place.line)) is not None:
            return Rule(family, "", f"{who} {allowed[0]}", allowed[1])
        problem = _dimension_problem(rule, error, texts, who)
        return Rule(family, "", problem, _of_line(place.line) if place.line else None)
    if rule.family is Family.OPERATOR and rule.remedy is None:
        in_onnx = "ONNX" in rule.problem
        return replace(rule, remedy=operator_remedy(operator, in_onnx=in_onnx))
    return rule


def _of_ours(error: EdgeportError) -> Diagnosis:
    """Our own errors say the problem and the remedy themselves."""
    families = {ContractError: Family.CONTRACT, ParityError: Family.PARITY}
    other = Family.OPERATOR if error.remedy == OTHER_DTYPE else Family.UNKNOWN
    family = families.get(type(error), other)
    return Diagnosis(family=family, problem=error.problem, remedy=error.remedy)


def _text(error: BaseException) -> str:
    """What the rules read: no code of the user's, which torch quotes after ``File``."""
    told = words(error).split('File "')[0].strip()
    functions = "".join(f"\nin {frame.f_code.co_name}" for frame, _ in frames_of(error))
    scripted = any(
        frame.f_code.co_filename.endswith("_recursive.py") for frame, _ in frames_of(error)
    )
    interpreted = INTERPRETED in str(error)
    return f"{told}{functions}" + "\n_recursive.py" * scripted + f"\n{INTERPRETED}" * interpreted


def _match(texts: Sequence[str]) -> tuple[Rule, tuple[str, ...]] | None:
    for rule in RULES:
        for text in texts:
            if found := re.search(rule.pattern, text, re.MULTILINE):
                return rule, found.groups(default="")
    return None


def _unmatched(place: Place) -> tuple[Rule, tuple[str, ...]]:
    """Below a layer it is forward that raises; elsewhere nothing is known."""
    inside = place.line is not None
    family = Family.FORWARD if inside else Family.UNKNOWN
    return Rule(family, "", "{first}"), ()


def _operator(texts: Sequence[str]) -> str | None:
    for pattern in OPERATORS:
        for text in texts:
            if found := pattern.search(text):
                return ".".join(part for part in found.groups() if part).replace("::", ".")
    return None


def _decides(texts: Sequence[str], line: Line | None) -> bool:
    """Whether the line is a condition: bool(tensor), or an expression in the test of an ``if``."""
    if any(re.search(r"expression Eq\(u\d+, 1\)", text) for text in texts):
        return True
    if line is None or not any("Could not guard" in text for text in texts):
        return False
    with contextlib.suppress(SyntaxError):
        for node in ast.walk(ast.parse("".join(linecache.getlines(line.file)))):
            tests = [getattr(node, "test", None), *getattr(node, "ifs", [])]
            for test in tests:
                if isinstance(test, ast.expr) and _covers(test, line.number):
                    return True
    return False


def _allowed(text: str, line: Line | None) -> tuple[str, str] | None:
    """Which sizes of a dimension are left, and what to do."""
    if (asked := _ASKED.search(text)) is not None:
        return f"asks whether {asked[1]}, which not all sizes answer alike", ONE_WAY
    if (asked := _MULTIPLE.search(text)) is not None:
        name, step = asked.groups()
        problem = f"asks whether the dimension {name!r} is a multiple of {step}"
        return problem, STEP.format(name, step)
    for name, least, most, left, end in _BETWEEN.findall(text):
        has_end = end and (not most or int(end) < int(most))
        if not has_end and int(left) <= int(least or 2):  # torch says nothing of 0 to 2
            continue
        if line is not None and line.code.startswith(_LOOPS):  # other sizes go, with other rounds
            return f"loops as often as the dimension {name!r} tells", LOOP
        if has_end:
            return f"takes the dimension {name!r} up to {end} alone", LARGEST.format(name, end)
        return f"takes the dimension {name!r} from {left} on alone", SMALLEST.format(name, left)
    return None


def _of_line(line: Line) -> str | None:
    """What to do about a line that fixes a size."""
    if line.code.startswith(_LOOPS):
        return LOOP
    return REPEATED if _REPEATED.search(line.code) else None


def _covers(node: ast.expr, number: int) -> bool:
    return node.lineno <= number <= (node.end_lineno or node.lineno)


def _dimension_problem(rule: Rule, error: BaseException, texts: Sequence[str], who: str) -> str:
    text = "\n".join(texts)
    # of inputs['inputs'][0].shape[1], in torch 2.14 inputs[0].shape[1]; one input alone has no [0]
    axis = re.search(r"for dimension inputs(?:\['\w+'\])?(?:\[(\d+)\])?\.shape\[(\d+)\]", text)
    name = dimension_names(error).get((int(axis[1] or 0), int(axis[2]))) if axis else None
    if name is not None:
        return f"{who} fixes the dimension {name!r} to {{0}}"
    if (size := re.search(r"to be a constant \((\d+)\)", text)) is not None:
        return f"{who} fixes the dimension {{0!r}} to {size[1]}"
    return rule.problem.replace("forward", who, 1)


def _first_line(error: BaseException) -> str:
    """The first line of the innermost exception that has one."""
    telling = next((one for one in chain(error) if str(one).strip()), error)
    return words(telling).splitlines()[0][:_LONGEST_PROBLEM]
