"""The table of rules: what torch was seen to raise, and which family of failure it is."""

import re
from dataclasses import dataclass
from typing import Final

from . import remedies
from .remedies import Family


@dataclass(frozen=True, slots=True)
class Rule:
    """How one kind of failure is recognised.

    Attributes:
        family: What it is.
        pattern: Searched, line by line, in what ``diagnose`` makes of each exception:
            ``ExceptionType: message``, then ``in function`` for each frame of its traceback.
        problem: For the user; ``{0}``, ``{1}`` are the pattern's groups, ``{operator}`` is the
            operator, ``{first}`` the first line of the message.
        remedy: Where the family's own does not fit.
    """

    family: Family
    pattern: str
    problem: str
    remedy: str | None = None


_COMPLEX = r"_?fft_\w+|complex|polar|view_as_complex|view_as_real|stft|istft|angle|imag|_?conj\w*"

DECIDING_PROBLEM: Final = "forward decides by the values of a tensor"
FORKED: Final = "autograd's threading in combination with fork"
FORKED_PROBLEM: Final = (
    "forward takes derivatives, which torch refuses in a fork of a process that has taken some "
    "beside a GPU"
)
PACKED_PROBLEM: Final = "packed sequences cannot be captured: their sizes are values"

RULES: Final = (
    # ---- limits
    Rule(
        Family.MEMORY,
        r"^MemoryError|OutOfMemory|can't allocate memory|bad_alloc",
        "there is not enough memory",
    ),
    Rule(Family.TIMEOUT, r"^TimeoutError", "it took too long"),
    Rule(Family.OLDER, r"^OlderOpsetError: ([^\n]+)", "{0}"),
    # ---- before what they are raised inside of
    Rule(Family.AUTOGRAD, FORKED, FORKED_PROBLEM, remedies.NO_GPU),
    Rule(
        Family.RECURRENT,
        r"in (?:_?pack_padded_sequence|pad_packed_sequence)\b|`_?pack_padded_sequence`",
        PACKED_PROBLEM,
        remedies.PACKED,
    ),
    Rule(
        Family.PYTHON,
        r"\.numpy\(\) is not supported|reference to 'numpy|call numpy\(\) on|Numpy\w+Variable",
        "forward computes with numpy, out of sight of the compiler",
        remedies.NUMPY,
    ),
    Rule(
        Family.PYTHON,
        r"Cannot access data pointer|Data pointer comparison|attribute or method 'data_ptr'",
        "forward reads an address of memory",
        remedies.ADDRESS,
    ),
    Rule(Family.PYTHON, r"in (?:_load|_legacy_load)$", "forward loads a file", remedies.LOADED),
    Rule(
        Family.OPERATOR,
        r"PackedParamsBase|\bquantized(?:::|\.)\w+",
        "quantised modules of torch.ao hold packed weights",
        remedies.QUANTISED,
    ),
    Rule(
        Family.OPERATOR,
        r"no fake impl registered for <CustomOpDef\((\w+)::(\w+)\)|"
        r"^KeyError: <bound method OpOverload\.name of <OpOverload\(op='(\w+)\.(\w+)'|"
        r"unrecognized namespace (\w+)::(\w+)",
        "{0}{2}{4}.{1}{3}{5} is no operator of torch",
        remedies.CUSTOM_OPERATOR,
    ),
    Rule(
        Family.COMPLEX,
        rf"(?:No ONNX function|unsupported operator).*"
        rf"\baten(?:::|\.)(?:{_COMPLEX})\b",
        "complex numbers have no translation to ONNX",
    ),
    Rule(
        Family.COMPLEX,
        r"complex-valued input|support complex|ScalarType Complex|Complex(?:Float|Double)Type",
        "complex numbers are not supported",
    ),
    # ---- values
    Rule(
        Family.CONTROL_FLOW,
        r"Data-dependent (?:branching|assertion)|DataDependentOutputException: aten\.equal",
        DECIDING_PROBLEM,
    ),
    Rule(
        Family.CONTROL_FLOW,
        r"^SizeInTensorError",
        "forward decides by a number that it makes of a free size in tensors",
        remedies.SIZE_IN_TENSOR,
    ),
    Rule(
        Family.SIZE,  # or control flow, which the line tells
        r"GuardOnDataDependentSymNode|data-dependent expression",
        "a number that comes from the values of a tensor is used as a size or count",
    ),
    Rule(
        Family.OPERATOR,
        r"DynamicOutputShapeException: aten\.(linalg_lstsq)\.",
        "{0} gives results whose sizes nobody knows before",
        remedies.LEAST_SQUARES,
    ),
    Rule(
        Family.OPERATOR,
        r"DynamicOutputShapeException: aten\._(ctc_loss)\.",
        "{0} gives results whose sizes nobody knows before",
        remedies.LOSS,
    ),
    Rule(
        Family.SIZE,
        r"DynamicOutputShape|Dynamic shape operator|data-dependent output shape",
        "the size of a tensor depends on the values of another",
    ),
    Rule(
        Family.PYTHON,
        r"^KeyError: '(?:tensor\(.*\)|.*\bs\d+\b.*)'$|unhashable type: non-nested SymInt",
        "a size that is free is the key of a look-up",
        remedies.KEY,
    ),
    Rule(
        Family.SIZE,
        r"Tensor\.(?:item|tolist)\(\)|TypeError: .*\bSym(?:Float|Int|Bool)\b|but got FakeTensor",
        "forward takes a number out of a tensor",
    ),
    # ---- what TorchScript says
    Rule(
        Family.CONTROL_FLOW,
        r"Expected integer literal for index|indexing is only supported with string literals",
        "in TorchScript, no layer is chosen by a number or a word that is not fixed",
        remedies.CHOSEN_LAYER,
    ),
    Rule(
        Family.PYTHON,
        r"^RuntimeError: undefined value (\w+)",
        "TorchScript: no value of {0!r} is known here",
        remedies.UNDEFINED,
    ),
    Rule(Family.MUTATION, r"^NotImplementedError: (forward keeps [^\n]+)", "{0}"),
    Rule(
        Family.PYTHON,
        r"Can't redefine method: \w+ on class: \S+?(\w+) ",
        "TorchScript has refused {0} before",
        remedies.NEW_PROCESS,
    ),
    Rule(
        Family.AUTOGRAD,
        r"Could not export Python function call '(\w+)'",
        "the autograd function {0} cannot be saved",
    ),
    Rule(
        Family.AUTOGRAD,
        r"'Subgraph' is undefined|prim::PythonOp|autograd\.Function",
        "a custom autograd function cannot be compiled",
    ),
    Rule(
        Family.MUTATION,
        r"set nonexistent attribute: (\w+)",
        "forward makes a new attribute, {0!r}",
    ),
    Rule(
        Family.MUTATION,
        r"attribute assignment|set an attribute|state_dict changed|assigned during export",
        "forward changes an attribute of the module",
    ),
    Rule(
        Family.MUTATION,
        r"might be (?:modifying|aliasing) the input|'aten\.\w+_\.\w+' is not functional",
        "a branch or a loop, as of torch.cond and torch.while_loop, writes into what it is given, "
        "or returns it",
        remedies.NEW_TENSORS,
    ),
    Rule(
        Family.MUTATION,
        r"FunctionalTensor on its own",
        "a branch or a loop, as of torch.cond and torch.while_loop, writes into a tensor from "
        "outside",
        remedies.PASS_ON,
    ),
    Rule(
        Family.UNKNOWN,  # never the reason why nothing else works
        r"torch\.jit\.trace a dynamo-optimized function",
        "a trace takes no torch.cond and no torch.while_loop",
    ),
    Rule(
        Family.MUTATION,
        r"written-to tensor|in-place operation|modify sizes|inplace view|inside of forward",
        "forward writes into a tensor that others share",
    ),
    Rule(
        Family.MUTATION,
        r"nn\.Parameter\(\)` with export|instantiate class 'Parameter'|Class \w+ does not have "
        r"an __init__",
        "forward makes parameters or layers",
    ),
    Rule(
        Family.OUTPUT,
        r"an output is (?:an?|of type) (\w+), not a tensor",
        "an output is of type {0}, not a tensor",
    ),
    Rule(
        Family.OUTPUT,
        r"outputs.*pytree-flattenable|elements provided as example outputs|supported as JIT",
        "an output is not a tensor",
    ),
    Rule(
        Family.INPUT,
        r"inputs?.*pytree-flattenable|Only Tensors and .* can be traced|supported input type",
        "an input is not a tensor",
    ),
    Rule(
        Family.PYTHON,
        r"Module '(\w+)' has no attribute '(\w+)' .*failed to convert Python type: '(\w+)'",
        "TorchScript cannot hold the attribute {1!r} of {0}: a {2} of mixed or unknown types",
        remedies.ANNOTATE,
    ),
    Rule(
        Family.PYTHON,
        r"Module '(\w+)' has no attribute '(\w+)' .*convert Python type: '[\w.]+\.(\w+)'",
        "TorchScript cannot hold the attribute {1!r} of {0}: a {2}",
        remedies.OWN_ATTRIBUTES,
    ),
    Rule(
        Family.PYTHON,
        r"Failed to get source for <function ([\w.]+)",
        "TorchScript cannot read the source of {0}",
        remedies.OWN_ATTRIBUTES,
    ),
    Rule(
        Family.PYTHON,
        r"Module '(\w+)' has no attribute '(\w+)' .*function exists",
        "TorchScript cannot compile the function in {0}.{1}",
    ),
    Rule(
        Family.PYTHON,
        r"expected type comment",
        "TorchScript reads a comment as a type",
        remedies.COMMENT,
    ),
    Rule(
        Family.PYTHON,
        r"(Expected type hint for result of tolist\(\)|Unknown type name \S+)(?::|\s|$)",
        "TorchScript: {0}",
        remedies.ANNOTATE,
    ),
    Rule(
        Family.PYTHON,
        r"^(?:NotSupported|UnsupportedNode|Frontend)Error: ([^\n]+?):?\s*$",
        "TorchScript: {0}",
    ),
    Rule(
        Family.PYTHON,
        r"'RecursiveScriptModule' object has no attribute 'forward'",
        "TorchScript has not compiled forward",
    ),
    Rule(
        Family.CONTROL_FLOW,
        r"^NotImplementedError: ((?:a list grows|a branch or a loop changes what a list) [^\n]+)",
        "in TorchScript, {0}",
        remedies.LIST_IN_SCRIPT,
    ),
    Rule(
        Family.CONTROL_FLOW,
        r"^NotImplementedError: ((?:the sides of a branch|a loop changes) [^\n]+)",
        "in TorchScript, {0}",
        remedies.ONE_KIND,
    ),
    Rule(
        Family.CONTROL_FLOW,
        r"^NotImplementedError: ((?:a branch or a loop|what is written into) [^\n]+)",
        "in TorchScript, {0}",
        remedies.WRITE_APART,
    ),
    Rule(
        Family.SIZE,
        r"^NotImplementedError: (a list of numbers that are made of values is an index)",
        "{0}",
        "index by the tensor itself, without .tolist()",
    ),
    Rule(
        Family.PYTHON,
        r"Tracer cannot set value trace for type (None|Int|Float|Bool|String)\b",
        "forward returns {0} beside tensors, which a script cannot pass on",
        "return tensors alone",
    ),
    # ---- dimensions
    Rule(
        Family.DIMENSION,
        r"Constraints violated \((.+?)\)",
        "forward fixes the dimension {0!r}, or allows some sizes only",
    ),
    Rule(
        Family.DIMENSION,
        r"tracing inferred a static shape of (\d+)",
        "forward fixes a free dimension to {0}",
    ),
    Rule(
        Family.DIMENSION,
        r"^AskedSizeError: ",
        "forward asks for sizes what not all answer alike",
    ),
    Rule(
        Family.DIMENSION,
        r"^AssertionError: Cannot create Dim with inconsistent",
        "forward fixes a free dimension, or allows some sizes only",
    ),
    Rule(
        Family.PYTHON,
        r"^LostSizeError: (int|float)\(\) of a free size",
        "{0}() makes a number of a free size",
        "leave it out: a size from tensor.shape is an integer already, and size / 2 a float; or "
        f"{remedies.FIXED}",
    ),
    Rule(
        Family.PYTHON,
        r"^LostSizeError: len\(\) of a free size",
        "len() of a tensor makes a number of a free size",
        f"ask for x.shape[0] in place of len(x); or {remedies.FIXED}",
    ),
    Rule(
        Family.SIZE,
        r"^LostSizeError: a number that is made of values",
        "forward makes a number of values, for which the file would keep no condition",
    ),
    Rule(
        Family.SIZE,
        r"^LostSizeError: (\w+)\(\) of a value",
        "{0}() makes a number of Python's of a tensor's values",
        f"keep it in a tensor; to choose by it, {remedies.CHOSEN_LAYER}",
    ),
    Rule(
        Family.PYTHON,
        r"^LostSizeError: (\w+)\(\) of a size",
        "{0}() of a size that went through floats makes a number of it, or has no place in a file",
        remedies.ROUNDED,
    ),
    # ---- operators
    Rule(
        Family.OPERATOR,
        r"No ONNX function found|in this export path",
        "{operator} has no translation to ONNX",
    ),
    Rule(
        Family.OPERATOR,
        r"SymbolicTensor'|Unsupported attribute type",
        "{operator} is given a free size for a number, which has no translation to ONNX",
    ),
    Rule(
        Family.OPERATOR,
        r"UnsupportedOperatorException|unsupported operator|with Meta tensors",
        "{operator} cannot be captured by torch.export",
    ),
    Rule(Family.OPERATOR, r"Unknown builtin op", "TorchScript has no {operator}"),
    # ---- the rest
    Rule(
        Family.FORWARD,
        r"SymIntArrayRef expected to contain only concrete integers",
        "an operator in this line takes no free size",
        f"{remedies.FIXED}; or leave the format out with --format: another may hold it",
    ),
    Rule(Family.UNKNOWN, r"INTERNAL ASSERT FAILED.*?PyTorch\. (.*)", "torch fails in itself: {0}"),
    Rule(
        Family.PYTHON,
        r"Cannot insert a Tensor that requires grad as a constant|"
        r"fake tensor in the exported program|observable data dependence",
        "a part of forward is hidden from the compiler",
        remedies.HIDDEN,
    ),
    Rule(
        Family.FORWARD,
        r"with fake tensors: [^\n]*: got (\w+)\(['\"]?([^\n]*?)['\"]?\)",
        "forward raises {0}: {1}",
    ),
    Rule(
        Family.FORWARD,
        r"raised exception (\w+)\(['\"]?(.*?)['\"]?\)$",
        "forward raises {0}: {1}",
    ),
    Rule(Family.FORWARD, r"^(\w*Error: [^\n]+)\n(?:.*\n)*in run_node$", "{0}"),
    Rule(Family.FORWARD, r"failed in the TorchScript interpreter", "{first}"),
    Rule(Family.PYTHON, r"^Unsupported: ([^\n]+)", "torch.export: {0}"),
    Rule(
        Family.PYTHON,
        r"^\w*(?:Error|Exception): ([^\n]+?):?\n(?:.*\n)*_recursive\.py",
        "TorchScript: {0}",
    ),
)
"""Checked in this order."""

OPERATORS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"<OpOverload\(op='([\w.]+)', overload='(\w+)'\)>",
        r"operator '(\w+::\w+)'",
        r"(?:UnsupportedOperatorException|DynamicOutputShapeException): ([\w.]+)",
        r"unsupported operator: ([\w.]+)",
        r"(\w+::[\w.]+): attempted to run",
        r"Unknown builtin op: (\w+::\w+)",
        r"No ONNX function found for <(?:built-in )?function (\w+)",
        r"\b(aten)_(\w+) with ",
        r"when translating node .*\[target=torch\.ops\.([\w.]+)\]",
    )
)
"""Where a message names an operator: one group, or the name and the overload."""
