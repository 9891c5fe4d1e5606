"""Benchmarks and soaks on the page of a check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from edgeport.commands import charts
from edgeport.commands.bench_figures import wide_table
from edgeport.commands.bench_gpu import PARTS
from edgeport.commands.charts import STYLES, Line
from edgeport.commands.html_page import Html, items, join, section, tag
from edgeport.commands.quantities import UNAVAILABLE, duration, rounded
from edgeport.commands.terminal import size_text

Told: TypeAlias = dict[str, Any]

_MIB: Final = 2**20
_POINTS: Final = 300


def benchmarks(rows: Sequence[Told]) -> list[Html]:
    """A table of each model that was timed, and the doubts of all of them."""
    timed = [row for row in rows if row["status"] == "pass"]
    if not timed:
        return []
    content = [_timed(row) for row in timed]
    doubts = [f"{row['model']}{doubt}" for row in timed for doubt in _doubts(row["figures"])]
    about = (
        "Parts of a call are medians between CUDA events, where a session can tell them. The JSON "
        "has every raw duration, and clocks, power and temperature of every round."
    )
    if doubts:
        content += [tag("h3", "Reasons to doubt these figures"), items("ul", doubts)]
    return [section("How long does a call take?", *content, tag("p", about, class_="quiet"))]


def _doubts(result: Told) -> list[str]:
    """Each once, with the ways to call that it is about if there are others."""
    ways: dict[str, list[str]] = {}
    for variant in result["variants"]:
        for doubt in variant["doubts"]:
            ways.setdefault(doubt, []).append(variant["label"])
    everywhere = len(result["variants"])
    own = [
        f": {doubt}" if len(labels) == everywhere else f" on {'; '.join(labels)}: {doubt}"
        for doubt, labels in ways.items()
    ]
    return [*(f": {doubt}" for doubt in result["doubts"]), *own]


def _timed(row: Told) -> Html:
    header = ["way to call", "p50", "95 % interval", "p99", "rows/s", *PARTS, "SM clock", "power"]
    result = row["figures"]
    body = [[v["label"], *map(_number, [*_latency(v), *_parts(v["gpu"]), *_state(v["gpu"])])]
            for v in result["variants"]]  # fmt: skip
    if not any(v["gpu"] for v in result["variants"]):  # a rehearsal
        header, body = header[:5], [cells[:5] for cells in body]
    caption = f"{row['model']}: batch {result['variants'][0]['rows']}, {result['mode']}"
    return wide_table(caption, header, body)


def _number(text: str) -> Html:
    """Not parted from its unit; the ends of an interval may be."""
    ends = [tag("span", end, class_="number") for end in text.split(" to ")]
    return join([ends[0], *(join([" to ", end]) for end in ends[1:])]) if text else Html()


def _latency(variant: Told) -> list[str]:
    found = {p["percent"]: p["latency_ns"] for p in variant["percentiles"]}
    middle, high = found.get(50), found.get(99)
    between = ""
    if middle and middle["low"] is not None:
        between = f"{duration(middle['low'])} to {duration(middle['high'])}"
    rate = variant["rows_per_s"]
    return [
        duration(middle["value"]) if middle else "too few calls",
        between,
        duration(high["value"]) if high else "too few calls",
        "" if rate is None else rounded(rate),
    ]


def _parts(gpu: Told | None) -> list[str]:
    if gpu is None or gpu["parts_ns"] is None:
        return [""] * len(PARTS)
    parts = np.array(gpu["parts_ns"])  # (calls, 4): copy in, compute, copy out, wall
    beside = parts[:, 3] - parts[:, :3].sum(1)
    return [duration(float(np.median(each))) for each in (*parts[:, :3].T, beside)]


def _state(gpu: Told | None) -> list[str]:
    rounds = [each["after"] for process in (gpu or {}).get("rounds", []) for each in process]
    return [
        _between(rounds, "sm_clock_mhz", lambda mhz: f"{mhz:,} MHz"),
        _between(rounds, "power_mw", lambda mw: f"{mw / 1000:.0f} W"),
    ]


def _between(readings: Sequence[Told], name: str, text: Callable[[int], str]) -> str:
    known = [reading[name] for reading in readings if reading[name] is not None]
    if not known:
        return UNAVAILABLE
    low, high = text(min(known)), text(max(known))
    return low if low == high else f"{low} to {high}"


def soaks(rows: Sequence[Told]) -> list[Html]:
    """What the soaks counted, and how memory, clock and temperature went."""
    ran = [row for row in rows if row["figures"].get("looks")]
    if not ran:
        return []
    header = [
        "backend",
        "model",
        "time",
        "calls",
        "failed",
        "changed answers",
        "memory",
        "GPU memory",
    ]
    body = [
        [
            row["backend"],
            row["model"],
            _number(f"{row['figures']['looks'][-1]['at_s']:.0f} s"),
            f"{row['figures']['looks'][-1]['calls']:,}",
            f"{row['figures']['looks'][-1]['errors']:,}",
            f"{row['figures']['looks'][-1]['changed']:,}",
            _growth(row["figures"].get("process_growth")),
            _growth(row["figures"].get("gpu_growth")),
        ]
        for row in ran
    ]
    about = (
        "A changed answer differs in some bit from the first one of its sample; the one that is "
        "farthest off has to pass the parity rule. Memory is the median of the first and the last "
        "third after the warm-up, and its slope; all backends ran at a time."
    )
    return [
        section(
            "Does it last?",
            wide_table("Soak", header, body),
            tag("p", about, class_="quiet"),
            tag("div", *_charts(ran), class_="charts"),
        )
    ]


def _growth(told: Told | None) -> str:
    if told is None:
        return UNAVAILABLE
    slope = told["slope_bytes_per_hour"]
    sizes = f"{size_text(told['first_bytes'])} to {size_text(told['last_bytes'])}"
    return sizes if slope is None else f"{sizes}, {slope / _MIB:+,.1f} MiB/h"


def _charts(rows: Sequence[Told]) -> list[Html]:
    """One for each quantity that any of the backends knows."""
    wanted: list[tuple[str, str, Callable[[Told], float | None]]] = [
        ("Memory of the process", "MiB", lambda look: _scaled(look["process_bytes"], _MIB)),
        ("Memory of the GPU", "MiB", lambda look: _scaled(look["gpu_bytes"], _MIB)),
        ("Temperature", "°C", lambda look: (look["gpu"] or {}).get("temperature_c")),
        ("SM clock", "MHz", lambda look: (look["gpu"] or {}).get("sm_clock_mhz")),
        ("Power", "W", lambda look: _scaled((look["gpu"] or {}).get("power_mw"), 1000)),
    ]
    drawn = []
    for title, unit, value in wanted:
        curves = []
        for row, style in zip(rows, STYLES, strict=False):
            looks = row["figures"]["looks"]
            looks = looks[:: 1 + len(looks) // _POINTS]
            known = [(look["at_s"], found) for look in looks if (found := value(look)) is not None]
            if known:
                xs, ys = zip(*known, strict=True)
                curves.append(Line(row["backend"], xs, ys, style))
        if curves:
            drawn.append(charts.lines(title, curves, x="seconds", y=unit))
    return drawn


def _scaled(value: int | None, unit: int) -> float | None:
    return None if value is None else value / unit
