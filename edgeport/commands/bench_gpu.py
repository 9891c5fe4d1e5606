"""What a benchmark knows of the GPU: its state in the rounds, and the parts of a call on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from edgeport.commands.bench_figures import wide_table
from edgeport.commands.html_page import Html, section, tag
from edgeport.commands.quantities import UNAVAILABLE, duration
from edgeport.commands.terminal import plain, size_text, table
from edgeport.runtimes.bench import Latency, Result
from edgeport.runtimes.bench.gpu import GpuUse
from edgeport.runtimes.cuda.nvml import Gpu

PARTS: Final = ("copy in", "compute", "copy out", "beside the GPU")
"""The last is what the wall clock shows and the events don't: checks, launches, waiting."""

_STATE: Final = ("SM clock", "memory clock", "slowed by", "power", "temperature", "GPU memory",
                 "energy per call")  # fmt: skip


def gpu_text(result: Result) -> str:
    """Two tables for people, if any variant ran on a GPU."""
    found = _of(result)
    if not found:
        return ""
    cards = dict.fromkeys(card_text(use.card.gpu) for _, use in found if use.card.gpu is not None)
    blocks = [f"GPU: {plain('; '.join(cards))}"] if cards else []
    states = [[plain(v.label), *state(use)] for v, use in found if use.rounds]
    if states:
        blocks.append(table(["at the ends of the rounds", *_STATE], states))
    if parts := _parts(found):
        rows = [[plain(row[0]), *row[1:]] for row in parts]
        blocks.append(table(_PARTS_HEADER, rows, right=list(range(1, 6))))
    return "\n\n".join(blocks)


_PARTS_HEADER: Final = ["median of a call", "wall", *PARTS]


def gpu_section(result: Result) -> list[Html]:
    """The same for the page."""
    found = _of(result)
    if not found:
        return []
    about = (
        "Parts are from one CUDA event to the next, of calls that were made between the timed "
        "ones. Clocks, power and temperature are NVML's, right after the last call of each round."
    )
    states = [[v.label, *state(use)] for v, use in found]
    cards = dict.fromkeys(card_text(use.card.gpu) for _, use in found)
    content = [tag("p", f"{'; '.join(cards)}."), wide_table("State", ["variant", *_STATE], states)]
    if parts := _parts(found):
        content.append(wide_table("Where a call's time goes", _PARTS_HEADER, parts))
    return [section("GPU", *content, tag("p", about, class_="quiet"))]


def card_text(gpu: Gpu | None) -> str:
    """A card in a line."""
    if gpu is None:
        return "a GPU that NVML does not tell of"
    memory = "" if gpu.memory_bytes is None else f", {size_text(gpu.memory_bytes)}"
    limit = "" if gpu.power_limit_mw is None else f", at most {gpu.power_limit_mw / 1000:g} W"
    return (
        f"{gpu.name}, compute capability {gpu.compute_capability or UNAVAILABLE}{memory}{limit}, "
        f"driver {gpu.driver or UNAVAILABLE}, CUDA up to {gpu.cuda or UNAVAILABLE}"
    )


def state(use: GpuUse) -> list[str]:
    """How the GPU was doing, a cell for each title of the table."""
    slowed = [reading.slowed_by for reading in use.readings if reading.slowed_by is not None]
    reasons = dict.fromkeys(reason for each in slowed for reason in each)
    nothing = "nothing" if slowed else UNAVAILABLE
    memory = use.range_of("process_bytes") or use.range_of("used_bytes")
    energy = use.energy_uj_per_call
    return [
        _range(use.range_of("sm_clock_mhz"), 1, "MHz"),
        _range(use.range_of("memory_clock_mhz"), 1, "MHz"),
        ", ".join(reasons) or nothing,
        _range(use.range_of("power_mw"), 1000, "W"),
        _range(use.range_of("temperature_c"), 1, "°C"),
        UNAVAILABLE
        if memory is None
        else size_text(memory[1]) + ("" if use.range_of("process_bytes") else " of all processes"),
        UNAVAILABLE if energy is None else f"{energy / 1000:.3g} mJ",
    ]


def _of(result: Result) -> list[tuple[Latency, GpuUse]]:
    return [(variant, variant.gpu) for variant in result.variants if variant.gpu is not None]


def _parts(found: Sequence[tuple[Latency, GpuUse]]) -> list[list[str]]:
    """Medians of each part by itself: they need not add up to the median of the whole."""
    rows = []
    for variant, use in found:
        if use.parts_ns is not None:
            beside = use.parts_ns[:, 3] - use.parts_ns[:, :3].sum(1)  # (calls, 4) -> (calls,)
            columns = [use.parts_ns[:, 3], *use.parts_ns[:, :3].T, beside]
            rows.append([variant.label, *(duration(float(np.median(c))) for c in columns)])
    return rows


def _range(ends: tuple[int, int] | None, divisor: int, unit: str) -> str:
    if ends is None:
        return UNAVAILABLE
    low, high = (f"{end / divisor:,.4g}" if divisor > 1 else f"{end:,}" for end in ends)
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"
