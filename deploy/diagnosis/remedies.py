"""Families of failure, and what to do about each."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Family(StrEnum):
    """Why a compiler refuses a module."""

    CONTROL_FLOW = "data-dependent control flow"
    SIZE = "data-dependent size"
    OPERATOR = "unsupported operator"
    COMPLEX = "complex numbers"
    DIMENSION = "specialised dimension"
    MUTATION = "mutation"
    AUTOGRAD = "custom autograd function"
    OUTPUT = "non-tensor output"
    INPUT = "non-tensor input"
    PYTHON = "unsupported Python"
    RECURRENT = "recurrence over a free dimension"
    FORWARD = "error in forward"
    MEMORY = "out of memory"
    CRASH = "crash"
    TIMEOUT = "timeout"
    PARITY = "wrong answers"
    CONTRACT = "changed request"
    OLDER = "opset that is too old"
    UNKNOWN = "unknown"


REMEDIES: Final[Mapping[Family, str]] = {
    Family.CONTROL_FLOW: "compute both and choose with torch.where(condition, a, b), or use "
    "torch.cond or torch.while_loop, in place of Python's if, while, assert or max",
    Family.SIZE: "compute sizes from tensor.shape, keep numbers in tensors in place of .item() "
    "and .tolist(), and use torch.where(mask, x, 0) in place of x[mask]",
    Family.OPERATOR: "write it with operators that the format has",
    Family.COMPLEX: "compute with the real and the imaginary part as two real tensors, or leave "
    "the format out with --format: TorchScript and .pt2 may hold complex numbers",
    Family.DIMENSION: "compute sizes from tensor.shape, as in x.reshape(x.shape[0], -1), or "
    "declare the dimension fixed: write its size in place of its name",
    Family.MUTATION: "return new tensors in place of writing into inputs, parameters or "
    "attributes; pass state in and return it, or register it as a buffer in __init__",
    Family.AUTOGRAD: "call what its forward computes, written with torch functions, in place of "
    ".apply: no backward is needed here",
    Family.OUTPUT: "return tensors, or tuples, lists, dicts or dataclasses of tensors, and "
    "nothing else",
    Family.INPUT: "pass tensors; make what is no tensor an attribute of the module",
    Family.PYTHON: "write it with torch functions and plain Python, or leave the format out with "
    "--format: another may hold it",
    Family.RECURRENT: "declare the dimension fixed, or leave the format out with --format: "
    "another may hold this recurrent layer over a free dimension",
    Family.FORWARD: "eager mode runs this line, and the compiler fails on it: write it in other "
    "words, for every size that is declared, or leave the format out with --format: another may "
    "hold it",
    Family.MEMORY: "allow more memory, or export with a smaller example",
    Family.CRASH: "see the compiler's last words with --debug; leave the format out with --format",
    Family.TIMEOUT: "allow more time, or export a smaller model",
    Family.PARITY: "the compiler changed what is computed: a value or a size that it fixed, a "
    "branch on one, or an operator that it translates wrongly; change that part of forward, or "
    "leave the format out with --format",
    Family.CONTRACT: "declare what the module does, or change the module",
    Family.OLDER: "ask for a newer --opset, or leave it out: 20 is written then",
    Family.UNKNOWN: "see the compiler's own words with --debug; leave the format out with "
    "--format: another may hold it",
}

FIXED: Final = "declare the dimension fixed: write its size in place of its name"
SIZE_IN_TENSOR: Final = (
    "compute with sizes in Python, from tensor.shape and numbers that are no tensors: -(-n // 4) "
    f"in place of torch.ceil(n / self.stride); or {FIXED}"
)
LOOP: Final = (
    "a loop over a free dimension needs code that torch.jit.script takes: write what each step "
    "makes into a tensor, as in out[:, t] = y, in place of a list that grows, count with range, "
    "and start what a step passes on with a tensor, or annotate it: last: Optional[Tensor] = None; "
    f"or {FIXED}"
)
REPEATED: Final = (
    "repeat a tensor in place of a list of it, y.expand(size, *y.shape) for torch.stack([y] * "
    f"size), as a list has a number of parts; or {FIXED}"
)
LIST_IN_SCRIPT: Final = (
    "write what each turn makes into a tensor, as in out[:, t] = y, in place of a list, and choose "
    "with torch.where in place of a branch that adds to one"
)
ONE_KIND: Final = (
    "give each variable one kind of value, of one shape and dtype, whichever way it goes"
)
WRITE_APART: Final = (
    "write into tensors of their own, y = y.clone(), and join parts with torch.cat or torch.stack "
    "behind the branch or the loop"
)
NEW_TENSORS: Final = "make new tensors in it: y * 2 in place of y.mul_(2), y.clone() in place of y"
PASS_ON: Final = (
    "pass that tensor to it, and return what becomes of it, acc + y in place of acc.add_(y)"
)
STEP: Final = (
    "declare the step, {0}:{1}..:{1}, if multiples of {1} are all that it has to take; or do "
    "without the branch: padding by -size % {1}, which may be 0, is right for every size"
)
ROUNDED: Final = (
    "divide whole numbers: n // 4 in place of int(n / 4) and math.floor(n / 4), -(-n // 4) in "
    "place of math.ceil(n / 4)"
)
PACKED: Final = (
    "pass padded tensors, and zero the padding with a mask, in place of packed sequences; "
    "TorchScript may hold packed sequences"
)
NUMPY: Final = "use torch's function of the same name, and keep values in tensors"
ADDRESS: Final = "decide by values and shapes: addresses of memory are others in each run"
UNRUNNABLE: Final = (
    "the compiler wrote a file that its engine cannot open or run: write the part of forward that "
    "is named in other words, or leave the format out with --format: another may hold it"
)
EMPTY: Final = (
    "a .pt2 file takes no size of 0 that one of an input before it follows: pass the input whose "
    "size it is first, or let its range begin at 1; or leave the format out with --format: another "
    "may hold it"
)
CUSTOM_OPERATOR: Final = (
    "write what it computes with torch functions, in place of the operator: files hold those of "
    "torch alone, as a device has no others"
)
LEAST_SQUARES: Final = (
    "solve the normal equations: torch.linalg.solve(a.mT @ a, a.mT @ b), of at most 8 columns in "
    "ONNX; or leave the format out with --format: TorchScript may hold it"
)
LOSS: Final = (
    "return the log-probabilities, and compute the loss outside of the model; or leave the format "
    "out with --format: TorchScript may hold it"
)
LOADED: Final = "load it in __init__, and keep it: self.register_buffer('name', tensor)"
QUANTISED: Final = (
    "export the module as it was before it was quantised, with --precision int8; or leave the "
    "format out with --format: TorchScript may hold it"
)
KEY: Final = (
    "choose with if and else in place of a look-up by size: `self.a(x) if n % 2 == 0 else "
    "self.b(x)`; what a cache keeps for each size, make anew in each call"
)
UNDEFINED: Final = (
    "give it a value before the branch or the loop, of the same kind and shape; what is outside of "
    "forward has to be an attribute"
)
LARGEST: Final = (
    "declare the largest size, {0}<={1}, if that is as far as it goes; or make what it indexes as "
    "long as the size"
)
SMALLEST: Final = (
    "declare the smallest size, {0}:{1}.., if smaller ones need not go; or do without the branch "
    "on the size"
)
ONE_WAY: Final = (
    "declare ranges of the sizes in which it goes one way; or do without the branch on the sizes"
)
CHOSEN_LAYER: Final = (
    "ask each layer whether it is meant: `for number, layer in enumerate(self.layers):` and in it "
    "`if number == chosen: y = layer(x)`, y being a tensor before"
)
HIDDEN: Final = "compute it with torch functions in forward itself: no threads, no .data"
ANNOTATE: Final = (
    "annotate the types that TorchScript cannot guess, or leave the format out with --format: "
    "another may hold it"
)
OWN_ATTRIBUTES: Final = (
    "keep what forward reads of such an object in attributes of the module, as in "
    "self.width = config.width, or leave the format out with --format: another may hold it"
)
COMMENT: Final = "end the line after `# type: ignore`, or remove it: other words may not follow"
NO_GPU: Final = "export in a process without a GPU: CUDA_VISIBLE_DEVICES= edgeport export ..."
NEW_PROCESS: Final = "export in a fresh process: TorchScript keeps what is left of a refused class"

OTHER_DTYPE: Final = (
    "compute it in float32 or int64, for which there are most kernels: x.float(), x.long(); or "
    "leave ONNX out with --format: TorchScript and .pt2 may hold it"
)

ANOTHER_FORMAT: Final = "leave ONNX out with --format: TorchScript and .pt2 may hold it"

DECOMPOSITIONS: Final[Mapping[str, str]] = {
    "median": "sort and index: `x.sort(dim).values.select(dim, (x.shape[dim] - 1) // 2)`",
    "kthvalue": "sort and index: `x.sort(dim).values.select(dim, k - 1)`",
    "cdist": "write it out: `(a.unsqueeze(-2) - b.unsqueeze(-3)).abs().pow(p).sum(-1).pow(1 / p)`",
    "searchsorted": "count: `(edges.unsqueeze(-2) < x.unsqueeze(-1)).sum(-1)`",
    "bucketize": "count: `(edges < x.unsqueeze(-1)).sum(-1)`",
    "bincount": "with a fixed number of classes: "
    "`torch.nn.functional.one_hot(labels, classes).sum(0)`",
    "fmax": "where no value is NaN: `torch.maximum(a, b)`",
    "fmin": "where no value is NaN: `torch.minimum(a, b)`",
    "histogram": "with ends that are numbers: `torch.histc(x, k, 0, 1)`",
}
"""By operator, without overload: the same in other operators, as code that a test runs."""

_SCANS: Final = frozenset({"cummax", "cummin", "cumprod", "logcumsumexp", "prod"})
"""Over a size without a largest one; the exporter takes ``cumprod`` apart to ``prod``."""

SCAN: Final = (
    "declare how large the dimension that it runs along can be, as in time<=512: it then has "
    "so many steps that the largest is done"
)

_OWNERS: Final = (
    "an operator",
    "aten",
    "prim",
    "prims",
    "quantized",
    "torchvision",
    "higher_order",
)
"""Whose operators a file may hold; others were registered by the user."""

LINEAR_ALGEBRA: Final = (
    "ONNX has no decompositions of matrices, as SVD, QR and eigenvalues: det, inv, solve and "
    "cholesky of at most 8 x 8 are written out, and what hangs on weights alone is computed once"
)

EXPONENTIAL: Final = (
    "write out its series: s = a / 2**k with a k that makes all of it small, the sum of "
    "torch.linalg.matrix_power(s, n) / math.factorial(n) for n up to 12, and that squared k times; "
    "for rotations Rodrigues' formula"
)


def operator_remedy(operator: str | None, *, in_onnx: bool) -> str:
    """What to do without an operator.

    Args:
        operator: As ``aten.median.dim``.
        in_onnx: Whether it is ONNX that lacks it; else it cannot be captured at all.
    """
    owner, *name = (operator or "").split(".")[:2]
    bare = name[0].strip("_").removesuffix("_forward") if name else ""
    if name and owner not in _OWNERS:
        return CUSTOM_OPERATOR
    advice = DECOMPOSITIONS.get(bare, REMEDIES[Family.OPERATOR])
    if bare in _SCANS:
        advice = SCAN
    if bare.startswith("linalg") or bare == "cholesky":
        advice = LINEAR_ALGEBRA
    if bare.endswith("matrix_exp"):
        advice = EXPONENTIAL
    other = ANOTHER_FORMAT if in_onnx else "TorchScript may hold it, by a trace"
    return f"{advice}; or {other}" if in_onnx else f"{advice}; {other}"
