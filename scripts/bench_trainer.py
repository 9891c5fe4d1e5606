"""What ``training.fit`` costs beside a bare loop over slices of tensors.

Both train the same 64-128-10 MLP on the same digits with the same optimizer, at a constant rate;
they take turns, and CPU time of the process is counted. The last line is JSON.
"""

import argparse
import json
import statistics
import time

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


def bare(data: DataSet, epochs: int, batch: int) -> float:
    """Steps per CPU-second of a loop that does nothing but train, and evaluate once an epoch."""
    module = make_module()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
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
    bare(data, 1, asked.batch), ours(data, 1, asked.batch)  # warm up
    pairs = []
    for number in range(asked.rounds):
        first, second = (bare, ours) if number % 2 else (ours, bare)
        rates = {run.__name__: run(data, asked.epochs, asked.batch) for run in (first, second)}
        pairs.append((rates["ours"], rates["bare"]))
        print(f"ours {pairs[-1][0]:,.0f}  bare {pairs[-1][1]:,.0f} steps per CPU-second")
    ratios = sorted(own / other for own, other in pairs)
    result = {
        "bench_trainer_version": 1,
        "rounds": asked.rounds,
        "batch": asked.batch,
        "ours_steps_per_cpu_s": statistics.median(own for own, _ in pairs),
        "bare_steps_per_cpu_s": statistics.median(other for _, other in pairs),
        "ratio_median": statistics.median(ratios),
        "ratio_low": ratios[0],
        "ratio_high": ratios[-1],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
