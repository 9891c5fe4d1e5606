"""Run one model on this machine. Written by ``edgeport embed``; needs no edgeport; yours to change.

    model = Model()                          # the bundle lies beside this file
    answer = model.run({"NAME": array})      # numpy in, numpy out, by name

``python THIS_FILE --check`` repeats the bundle's golden samples: does this machine's engine
compute what the PyTorch module computed?
"""

import hashlib
import json
import math
import os
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    if sys.version_info < (3, 10):  # noqa: UP036  # a device's may be older than edgeport's
        raise ImportError(f"Python is {sys.version.split()[0]}, and 3.10 or later is needed")
    import numpy as np
    from numpy.typing import NDArray
except (ImportError, KeyboardInterrupt) as e:
    if __name__ != "__main__":
        raise
    print(f"{sys.argv[0]}: {str(e) or 'interrupted'}", file=sys.stderr)
    raise SystemExit(3 if isinstance(e, ImportError) else 130) from e

Array = NDArray[Any]


# <engine>
def load_engine(files: Sequence[bytes], threads: int) -> Callable[[list[Array]], list[Array]]:
    """Open the model: arrays in the order of INPUTS to arrays in the order of OUTPUTS."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # errors are raised
    if len(files) > 1:  # weights that are stored beside the model
        names = [Path(name).name for name in [*FILES][1:]]
        sizes = [len(data) for data in files[1:]]
        options.add_external_initializers_from_files_in_memory(names, [*files[1:]], sizes)
    providers = ["CPUExecutionProvider"]
    session: Any = onnxruntime.InferenceSession(files[0], options, providers=providers)
    session.disable_fallback()
    return lambda arrays: session.run([*OUTPUTS], dict(zip(INPUTS, arrays, strict=True)))


# </engine>

# <model>
BUNDLE = ""
FILES: dict[str, str] = {}
INPUTS: dict[str, tuple[str, tuple[int | str, ...]]] = {}
OUTPUTS: tuple[str, ...] = ()
RANGES: dict[str, tuple[int, int, int]] = {}
SUMS: dict[str, tuple[dict[str, int], int]] = {}
GOLDEN: tuple[str, str] = ("", "")
BARS: list[tuple[str, dict[str, tuple[str, float, float]]]] = []
MEDIANS: dict[str, tuple[float, tuple[int, ...]]] = {}
# </model>


class Model:
    """The model, opened once its file has the hash that was packed."""

    def __init__(
        self, bundle: Path | str = Path(__file__).parent / BUNDLE, threads: int | None = None
    ) -> None:
        files = [read(Path(bundle), name, sha256) for name, sha256 in FILES.items()]
        self._run = load_engine(files, threads or len(os.sched_getaffinity(0)))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute every output. ValueError: an input is not what the model takes."""
        return dict(zip(OUTPUTS, self._run(check_inputs(inputs)), strict=True))


def check_inputs(inputs: Mapping[str, Array]) -> list[Array]:
    """Return the arrays in the order of INPUTS, or say which one is wrong and why."""
    if set(inputs) != set(INPUTS):
        raise ValueError(f"the inputs are {[*inputs]}, this model takes {[*INPUTS]}")
    sizes: dict[str, int] = {}
    for name, (dtype, shape) in INPUTS.items():
        array = inputs[name]
        if not isinstance(array, np.ndarray | np.generic) or array.dtype != np.dtype(dtype):
            found = getattr(array, "dtype", type(array).__name__)
            raise ValueError(f"input {name!r} is {found}, expected {dtype}")
        if type(array) is not np.ndarray and isinstance(array, np.ma.MaskedArray):
            raise ValueError(f"input {name!r} is masked, which engines ignore: fill it first")
        if array.ndim != len(shape):
            raise ValueError(f"input {name!r} has shape {array.shape}, expected {shape}")
        for size, wanted in zip(array.shape, shape, strict=True):
            low, high, step = RANGES[wanted] if isinstance(wanted, str) else (wanted, wanted, 1)
            if not low <= size <= high or size % step:
                raise ValueError(
                    f"input {name!r} has shape {array.shape}, expected {shape}: "
                    f"{size} is not in {low}..{high}{f' in steps of {step}' if step > 1 else ''}"
                )
            if isinstance(wanted, str) and sizes.setdefault(wanted, size) != size:
                raise ValueError(f"{wanted!r} is {sizes[wanted]} and, in input {name!r}, {size}")
    for wanted, (factors, constant) in SUMS.items():
        expected = constant + sum(factor * sizes[name] for name, factor in factors.items())
        if sizes[wanted] != expected:
            raise ValueError(f"{wanted!r} is {sizes[wanted]}, expected {expected}: {sizes}")
    return [np.require(inputs[name], requirements=["C", "A"]) for name in INPUTS]


def read(bundle: Path, name: str, sha256: str) -> bytes:
    """Read a file of the bundle, which is a folder or one zip file."""
    try:
        if bundle.is_dir():
            data = (bundle / name).read_bytes()
        else:
            with zipfile.ZipFile(bundle) as archive:
                data = archive.read(name)
    except Exception as e:  # zipfile raises many kinds where a file is damaged
        raise OSError(f"cannot read {name} of the bundle {bundle}: {e}") from e
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{name} of {bundle} is not the file that was packed: don't run it")
    return data


def check(model: Model, bundle: Path) -> bool:
    """Repeat the golden samples; print one line for each output; say whether all are right.

    A bar is a reference, the largest rms of all errors, and the largest error. Over the samples
    that MEDIANS names, the median of rms / bar must be small as well: a fault is in most samples.
    """
    tensors = read_safetensors(read(bundle, *GOLDEN))
    passed, shares = True, {}
    for index, (sample, bars) in enumerate(BARS):
        answer = model.run({name: tensors[f"{index}/input/{name}"] for name in INPUTS})
        for name, (reference, rms_bar, bar) in bars.items():
            eager = tensors[f"{index}/eager/{name}"]
            rms, largest = errors(answer[name], eager, tensors[f"{index}/{reference}/{name}"])
            right = rms <= rms_bar and largest <= bar
            shares[name, index] = rms / rms_bar if rms else 0.0
            told = f"rms {of(rms, rms_bar)}, largest {of(largest, bar)}"
            tell(right, f"{sample}: {name}, {told}")
            passed = passed and right
    for name, (share, samples) in MEDIANS.items():
        median = float(np.median([shares[name, index] for index in samples]))
        right = median <= share
        tell(right, f"median: {name}, {median:.3f} of {share:.3f}")
        passed = passed and right
    return passed


def tell(right: bool, what: str) -> None:
    """Print a line; whoever reads no further, as ``head -1``, changes nothing."""
    try:
        print("pass" if right else "FAIL", what, flush=True)
    except OSError as e:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it is tried again
        if not isinstance(e, BrokenPipeError):
            raise


def of(error: float, bar: float) -> str:
    """An error and its bar, where it has one."""
    return f"{error:.2e}" if bar == sys.float_info.max else f"{error:.2e} of {bar:.2e}"


def errors(actual: Array, eager: Array, truth: Array) -> tuple[float, float]:
    """Root mean square and largest of all errors; of integers, 0 and how many differ."""
    if (actual.dtype, actual.shape) != (eager.dtype, eager.shape):
        return math.inf, math.inf
    if eager.dtype.kind != "f":
        return 0.0, float(np.count_nonzero(actual != eager))
    finite = np.isfinite(eager)
    if not np.array_equal(actual[~finite], eager[~finite], equal_nan=True):
        return math.inf, math.inf  # NaN or infinity in other places
    error = np.abs(actual[finite].astype(np.float64) - truth[finite])
    largest = float(error.max(initial=0.0))
    if not largest < math.inf:
        return math.inf, math.inf
    total = float(np.square(error / (largest or 1)).sum())
    return largest * math.sqrt(total / max(1, error.size)), largest


def read_safetensors(data: bytes) -> dict[str, Array]:
    """Arrays by name. https://github.com/huggingface/safetensors#format ."""
    start = 8 + int.from_bytes(data[:8], "little")
    body = memoryview(data)[start:]
    dtypes = {"BOOL": "?", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
    dtypes |= {f"{kind}{8 * n}": f"<{kind.lower()}{n}" for kind in "IU" for n in (1, 2, 4, 8)}
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], dtypes[entry["dtype"]])
        .reshape(entry["shape"])
        .copy()
        for name, entry in json.loads(data[8:start]).items()
        if name != "__metadata__"
    }


def main(arguments: Sequence[str]) -> int:
    """0: all is right; 1: something is not; 2: usage, no bundle; 3: no engine, memory or room."""
    if arguments != ["--check"]:
        asked = bool({"-h", "--help"} & {*arguments})
        print(f"usage: python {sys.argv[0]} --check", file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    place = Path(__file__).parent / BUNDLE
    try:
        return 0 if check(Model(place), place) else 1
    except (ValueError, OSError, ImportError, MemoryError) as e:
        print(f"{sys.argv[0]}: {str(e) or 'out of memory'}", file=sys.stderr)
        if isinstance(e, ValueError):
            return 1
        return 2 if isinstance(e, OSError) and e.errno is None else 3  # read() gives no number
    except KeyboardInterrupt:
        print(f"{sys.argv[0]}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
