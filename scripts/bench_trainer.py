"""What ``training.fit`` costs beside a bare loop over slices of tensors.

All train the same 64-128-10 MLP on the same digits with AdamW at a constant rate; they take turns,
and CPU time of the process is counted. ``bare`` makes the optimizer as people do, ``bare_fused``
with the one kernel that ours asks for. The last line is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from edgeport import training
from edgeport.training.data import DataSet, Labelled


def make_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def flat(part: Labelled) -> Labelled:
    return Labelled({"input": part.inputs["image"].reshape(len(part), -1)}, part.labels)


def bare(data: DataSet, epochs: int, batch: int, fused: bool | None = None) -> float:
    """Steps per CPU-second of a loop that does nothing but train, and evaluate once an epoch."""
    module = make_module()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, fused=fused)
    x, y = torch.tensor(data.train.inputs["input"]), torch.tensor(data.train.labels)
    held_x, held_y = torch.tensor(data.held_out.inputs["input"]), torch.tensor(data.held_out.labels)
    steps = 0
    start = time.process_time()
    for _ in range(epochs):
        module.train()
        order = torch.randperm(len(y))
        shuffled_x, shuffled_y = x[order], y[order]
        for first in range(0, len(y), batch):
            outputs = module(shuffled_x[first : first + batch])
            cost = functional.cross_entropy(outputs, shuffled_y[first : first + batch])
            optimizer.zero_grad()
            cost.backward()  # type: ignore[no-untyped-call]  # upstream
            optimizer.step()
            steps += 1
        module.eval()
        with torch.no_grad():
            found = module(held_x)
            functional.cross_entropy(found, held_y).item()
            (found.argmax(1) == held_y).sum().item()
    return steps / (time.process_time() - start)


def ours(data: DataSet, epochs: int, batch: int) -> float:
    module = make_module()
    settings = training.Settings(epochs, batch, 1e-3, schedule="constant")
    start = time.process_time()
    training.fit(module, data, settings)
    spent = time.process_time() - start
    return epochs * -(-len(data.train) // batch) / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    digits = training.digits()
    data = DataSet(digits.origin, flat(digits.train), flat(digits.held_out))
    loops: dict[str, Callable[[], float]] = {
        "ours": lambda: ours(data, asked.epochs, asked.batch),
        "bare": lambda: bare(data, asked.epochs, asked.batch),
        "bare_fused": lambda: bare(data, asked.epochs, asked.batch, True),
    }
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(asked.rounds + 1):
        for name in list(loops)[:: 1 if number % 2 else -1]:
            rate = loops[name]()
            if number > 0:  # the first round warms up
                rates[name].append(rate)
        print("  ".join(f"{name} {found[-1]:,.0f}" for name, found in rates.items() if found))
    result: dict[str, object] = {
        "bench_trainer_version": 1,
        "rounds": asked.rounds,
        "batch": asked.batch,
        "steps_per_cpu_s": {name: statistics.median(found) for name, found in rates.items()},
    }
    for name in ("bare", "bare_fused"):
        ratios = sorted(a / b for a, b in zip(rates["ours"], rates[name], strict=True))
        result[f"ours_over_{name}"] = {
            "median": statistics.median(ratios),
            "low": ratios[0],
            "high": ratios[-1],
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
