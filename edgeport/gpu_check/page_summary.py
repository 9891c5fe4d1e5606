"""What a person asks of a check first: a row for each backend, how right it is and how fast."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeAlias

from edgeport.commands.bench_figures import wide_table
from edgeport.commands.html_page import Html, join, mark, section, tag
from edgeport.commands.quantities import duration

Told: TypeAlias = dict[str, Any]


def summary(told: Told) -> Html:
    """The section of it; empty if no backend proved or timed anything."""
    backends = dict.fromkeys(row["backend"] for row in told["rows"] if row["stage"] == "parity")
    timed = [r for r in told["rows"] if r["stage"] == "benchmark" and r["status"] == "pass"]
    if not backends:
        return Html()
    calls = [
        f"a call of {row['model']}, batch {row['figures']['variants'][0]['rows']}" for row in timed
    ]
    header = ["backend", "computes the same", *calls]
    body = [[name, _same(told, name), *(_call(row, name) for row in timed)] for name in backends]
    doubted = any(
        each["doubts"] for row in timed for each in (row["figures"], *row["figures"]["variants"])
    )
    about = [
        "A call is the median of one with numpy in and out, copies to the GPU and back included."
        if timed
        else "",
        "There are reasons to doubt these times: see below." if doubted else "",
    ]
    return section(
        "In short",
        wide_table("Of all models", header, body),
        tag("p", " ".join(filter(None, about)), class_="quiet"),
    )


def _same(told: Told, backend: str) -> Html:
    counted = Counter(
        row["status"]
        for row in told["rows"]
        if row["stage"] == "parity" and row["backend"] == backend
    )
    known = counted["pass"] + counted["fail"]
    if not known:
        return mark("not known", "uninformative")
    others = [
        f"{counted[status]} {words}"
        for status, words in (("open", "not available"), ("unreached", "not reached"))
        if counted[status]
    ]
    text = f"{counted['pass']} of {known} models"
    kind = "fail" if counted["fail"] else "pass"
    return join([mark(text, kind), tag("span", ", ".join(others), class_="sub")])


def _call(row: Told, backend: str) -> str:
    """The median of the session as it is opened by default."""
    for variant in row["figures"]["variants"]:
        if variant["label"] == backend:
            found = {p["percent"]: p["latency_ns"] for p in variant["percentiles"]}
            return duration(found[50]["value"]) if found.get(50) else "too few calls"
    return ""
