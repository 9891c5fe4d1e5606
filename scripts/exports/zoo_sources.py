"""Modules of the zoo as sources, with weights and examples of any seed."""

from importlib.util import find_spec

import torch
import zoo
from zoo.nested import flat
from zoo.reference import as_array

from edgeport.commands.terminal import note
from edgeport.deploy.exporter import source_of
from edgeport.deploy.sources.source import Source
from edgeport.runtimes.inputs import Array

REAL_SAMPLE_SEED = 10_000
"""Where the draws of the samples that a user gives begin; other draws are below it."""


def chosen_modules(only: str, family: str = "") -> list[str]:
    """Names of modules: those of a list with commas, or all of a family; none that needs more."""
    names = [name for name in only.split(",") if name]
    unknown = [name for name in names if name not in zoo.ZOO]
    if unknown:
        raise SystemExit(f"no module is named {unknown[0]!r}; there are {', '.join(zoo.ZOO)}")
    names = names or [n for n, e in zoo.ZOO.items() if family in ("", e.family)]
    lacking = [name for name in names if not all(map(find_spec, zoo.ZOO[name].needs))]
    if lacking:
        note(f"left out, torchvision or transformers is missing: {', '.join(lacking)}")
    return [name for name in names if name not in lacking]


def source_of_entry(name: str, seed: int = 0) -> Source:
    """What an export of this module compiles, told what a user would tell it."""
    entry = zoo.ZOO[name]
    torch.manual_seed(seed)
    module = entry.make().train(entry.training)
    torch.manual_seed(seed + 1)
    example = entry.inputs()
    samples = [real_sample(name, REAL_SAMPLE_SEED + n) for n in range(entry.real_samples)]
    return source_of("model", module, example, entry.dimensions, entry.ranges, samples=samples)


def real_sample(name: str, seed: int) -> dict[str, Array]:
    """Inputs at the example's sizes, that no sample of an export equals."""
    entry = zoo.ZOO[name]
    inputs = entry.check(seed, entry.usual)
    return {key: as_array(tensor) for key, tensor in flat(inputs).items()}
