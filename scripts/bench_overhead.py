"""What edgeport's session costs over the engine's own calls, one thread.

    python scripts/bench_overhead.py                   # linear 4 to 1, MLP 64-128-10, digits CNN
    python scripts/bench_overhead.py a.edge b.edge     # bundles of yours

Ways to the same answer are timed in turn, on the very engine session that is inside ours:

    ours      session.run: inputs checked, outputs that the caller owns
    run       InferenceSession.run(names, feed); of libtorch: module(x) in inference mode, entered
              once for all calls, tensors in and out
    bound     run_with_iobinding of buffers that were bound before, one RunOptions for all calls;
              inputs copied in, outputs copied out: the best that its public interface can do; of
              libtorch: module(torch.from_numpy(x)).numpy() in inference mode, nothing copied

A ratio is the mean over rounds of the log ratio of the rounds' medians, with its interval.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime

from edgeport.commands.terminal import note, table
from edgeport.runtimes import Bundle, Options
from edgeport.runtimes.bench import loops
from edgeport.runtimes.bench.compared import paired_ratio
from edgeport.runtimes.bench.loops import Call, Durations
from edgeport.runtimes.bench.workload import Workload, feed
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.libtorch.calls import TorchSession
from edgeport.runtimes.ort.cpu import OrtSession

ROUNDS = 60
ROUND_NS = 30_000_000  # of each way
SETTLE_NS = 2_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost of a session over the raw calls.")
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundles = [Bundle.read(path) for path in args.bundles or _examples(Path(folder))]
        found = [_timed(bundle, name) for bundle in bundles for name in _backends(bundle)]
    header = ["bundle", "backend", "ours µs", "run µs", "bound µs", "ours / run", "ours / bound"]
    print(table(header, [_row(each) for each in found], right=(2, 3, 4)))
    if args.json:
        args.json.write_text(json.dumps({"overhead_version": 3, "bundles": found}))
    return 0


def _examples(folder: Path) -> list[Path]:
    import torch
    from torch import nn

    from edgeport import deploy
    from edgeport.training.models.small_cnn import SmallCnn

    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    modules = {
        "linear": (nn.Linear(4, 1), (4,)),
        "mlp": (mlp, (64,)),
        "digits": (SmallCnn(), (1, 8, 8)),
    }
    for name, (module, shape) in modules.items():
        note(f"exporting {name}")
        deploy.export(
            module.eval(),
            {"x": torch.randn(2, *shape)},
            folder / f"{name}.edge",
            dimensions={"x": {0: "batch"}},
            formats=("onnx", "torchscript"),
        )
    return [folder / f"{name}.edge" for name in modules]


def _backends(bundle: Bundle) -> list[str]:
    return [name for name in bundle.backends if name in ("ort-cpu", "libtorch")]


def _timed(bundle: Bundle, backend: str) -> dict[str, Any]:
    inputs = feed(bundle, Workload()).inputs
    note(f"timing {bundle.manifest.name} on {backend}")
    with bundle.open(backend, Options(threads=1)) as session:
        raw = cast(OrtSession | TorchSession, session)  # what those backends open
        with raw.engine_call(inputs) as call:
            calls: dict[str, Call] = {"ours": lambda: session.run(inputs), "run": call}
            if isinstance(raw, OrtSession):
                bound = _bound(raw._session, inputs, raw.run(inputs))
                calls["bound"] = lambda: bound(inputs)
            else:
                calls["bound"] = partial(_by_hand, raw._call, inputs)
            rounds = _in_turn(calls)
    found: dict[str, Any] = {"name": bundle.manifest.name, "backend": backend}
    found["median_ns"] = {name: float(np.median(each)) for name, each in rounds.items()}
    for name in calls.keys() - {"ours"}:
        ratio = paired_ratio(rounds["ours"], rounds[name])
        found[name] = {"value": ratio.value, "low": ratio.low, "high": ratio.high}
    return found


def _in_turn(calls: Mapping[str, Call]) -> dict[str, Durations]:
    """Time calls in this process, in random order in every round: ``(rounds, 1, calls)`` each."""
    counts = {name: _calls_in_a_round(call) for name, call in calls.items()}
    found = {name: np.full((ROUNDS, 1, count), -1, np.int64) for name, count in counts.items()}
    order = np.random.default_rng(0)
    for number in range(ROUNDS):
        for name in order.permutation(list(calls)):
            loops.settle(calls[name], SETTLE_NS)
            loops.closed(calls[name], found[name][number, 0])
    return found


def _calls_in_a_round(call: Call) -> int:
    warm = loops.warm_up(call, 20, 200_000_000, 2000)
    return max(5, int(ROUND_NS / float(np.median(warm[5:]))))


def _bound(
    session: onnxruntime.InferenceSession,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
) -> Callable[[Mapping[str, Array]], object]:
    """Prebound I/O with its copies, written as plainly as can be for one input and one output."""
    (name, like), (output, answer) = *inputs.items(), *outputs.items()
    source, target = np.empty_like(like), np.empty_like(answer)
    binding = session.io_binding()
    binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(source))
    binding.bind_ortvalue_output(output, onnxruntime.OrtValue.ortvalue_from_numpy(target))
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "-1")  # else it is looked for at every call

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        source[...] = feed[name]
        session.run_with_iobinding(binding, options)
        return {output: target.copy()}

    return run


def _by_hand(module: Any, inputs: Mapping[str, Array]) -> object:
    """Numpy in, numpy out, as whoever has one module writes it."""
    import torch

    with torch.inference_mode():
        (answer,) = module(*map(torch.from_numpy, inputs.values()))  # a tuple of one output
        return answer.numpy()


def _row(found: Mapping[str, Any]) -> Sequence[str]:
    times = [f"{found['median_ns'][n] / 1e3:.2f}" if n in found["median_ns"] else "—"
             for n in ("ours", "run", "bound")]  # fmt: skip
    return [
        found["name"],
        found["backend"],
        *times,
        *map(_ratio, (found["run"], found.get("bound"))),
    ]


def _ratio(found: Mapping[str, float] | None) -> str:
    return (
        "—"
        if found is None
        else f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
    )


if __name__ == "__main__":
    raise SystemExit(main())
