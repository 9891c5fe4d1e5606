"""The page of a check: the answer first, then what failed or could not be had, then the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from edgeport.commands.html_page import (
    Html,
    document,
    items,
    join,
    mark,
    pairs,
    section,
    table,
    tag,
)
from edgeport.commands.terminal import size_text

from .page_measured import benchmarks, soaks
from .page_summary import summary
from .rows import STAGES

Told: TypeAlias = dict[str, Any]

_SIGNS: Final = {"pass": "✓", "fail": "✗", "open": "-", "unreached": "…"}
_KINDS: Final = {"pass": "pass", "fail": "fail", "open": "unusable", "unreached": "uninformative"}
_STAGE_NAMES: Final = {
    "engine": "engine", "parity": "same numbers", "command": "commands",
    "benchmark": "benchmark", "soak": "soak",
}  # fmt: skip


def page(told: Told) -> str:
    """Write the page, which loads nothing and runs nothing.

    Args:
        told: A report's JSON.
    """
    rows: list[Told] = told["rows"]
    sections = [
        _head(told),
        summary(told),
        _failures(told),
        _open(told),
        _engines(rows),
        _parity(told),
        _repeats(rows),
        _commands(rows),
        *benchmarks([row for row in rows if row["stage"] == "benchmark"]),
        *soaks([row for row in rows if row["stage"] == "soak"]),
        _machine(told),
    ]
    return document(_title(told), [part for part in sections if part])


def _title(told: Told) -> str:
    if told["rehearsal"]:
        return "Rehearsal on the CPU"
    card = (told["machine"]["card"] or {}).get("gpu")
    return f"{card['name'] if card else told['machine']['device']}: GPU check"


def _head(told: Told) -> Html:
    counted = Counter(row["status"] for row in told["rows"])
    bad = counted["fail"] or told["unread"]
    good = not bad and counted["pass"] and not (counted["open"] or counted["unreached"])
    kind = "bad" if bad else "good" if good and not told["rehearsal"] else "doubt"
    facts = [
        ("passed", f"{counted['pass']}"),
        ("failed", f"{counted['fail']}" if counted["fail"] else ""),
        ("not available", f"{counted['open']}" if counted["open"] else ""),
        ("not reached", f"{counted['unreached']}" if counted["unreached"] else ""),
        ("models", f"{len(told['models'])}"),
        ("written", told["written_at"]),
    ]
    return tag(
        "header",
        tag("p", {"bad": "✗", "good": "✓"}.get(kind, "?"), class_="seal", aria_hidden="true"),
        tag("h1", _title(told)),
        tag("p", " ".join(_lead(told, counted)), class_="lead"),
        pairs(facts),
        class_=kind,
    )


def _lead(told: Told, counted: Counter[str]) -> list[str]:
    lead = []
    if told["rehearsal"]:
        lead.append(
            "The same steps on the CPU, to try them: nothing here says anything about a GPU."
        )
    if told["interrupted"]:
        lead.append("It was interrupted.")
    if counted["fail"]:
        lead.append(f"{counted['fail']} of {sum(counted.values())} steps failed.")
    elif counted["pass"]:
        lead.append("No step failed.")
    else:
        lead.append("Nothing could be checked.")
    if told["unread"]:
        lead.append(f"Bundles that could not be read: {len(told['unread'])}.")
    if counted["unreached"]:
        lead.append(
            f"{counted['unreached']} steps were not reached: run the same command again, and it "
            "goes on with them."
        )
    return lead


def _failures(told: Told) -> Html:
    """Backends that failed a model for the same reason stand together; a remedy is told once."""
    backends: dict[str, dict[tuple[str, ...], list[str]]] = {}
    for row in told["rows"]:
        if row["status"] == "fail":
            same = tuple(row[name] or "" for name in ("stage", "model", "reason"))
            backends.setdefault(row["remedy"] or "", {}).setdefault(same, []).append(row["backend"])
    found = []
    for remedy, alike in backends.items():
        found += [
            tag(
                "article",
                tag("p", _who(stage, model, ", ".join(names)), class_="problem"),
                tag("p", reason),
                pairs([("fix" if len(alike) == 1 else "fix of these", remedy)])
                if index == len(alike)
                else "",
            )
            for index, ((stage, model, reason), names) in enumerate(alike.items(), 1)
        ]
    found += [
        tag("article", tag("p", each["name"], class_="problem"), tag("p", each["reason"]))
        for each in told["unread"]
    ]
    about = (
        "Is it this machine? What engines do on every NVIDIA GPU is in docs/gpu.md, "
        '"What is less exact on a GPU, or wrong".'
    )
    return (
        section("What failed", tag("p", about, class_="quiet"), *found, class_="failure")
        if found
        else Html()
    )


def _who(stage: str, model: str, backends: str) -> str:
    return f"{_STAGE_NAMES[stage]}: {' on '.join(filter(None, (model, backends)))}"


def _open(told: Told) -> Html:
    """Backends, then steps, each reason once."""
    facts = [
        (name, f"{found['reason']}. Fix: {found['remedy']}")
        for name, found in told["machine"]["backends"].items()
        if not found["usable"]
    ]
    steps: Counter[tuple[str, str]] = Counter(
        (row["backend"] or row["model"], row["reason"])
        for row in told["rows"]
        if row["status"] == "open" and row["reason"]
    )
    facts += [
        (who, f"{reason} ({count} step{'s' * (count > 1)})")
        for (who, reason), count in steps.items()
    ]
    return section("What was not available", tag("article", pairs(facts))) if facts else Html()


def _engines(rows: Sequence[Told]) -> Html:
    found = [row for row in rows if row["stage"] == "engine"]
    if not found:
        return Html()
    body = []
    for library in dict.fromkeys(row["backend"] for row in found):
        own = [row for row in found if row["backend"] == library]
        counted = Counter(row["status"] for row in own)
        seconds = sorted(row["seconds"] for row in own if row["status"] == "pass")
        middle = f"{seconds[len(seconds) // 2]:.1f} s" if seconds else ""
        cells = [f"{counted[status]}" for status in ("pass", "open", "fail", "unreached")]
        body.append([library, *cells, middle])
    header = ["library", "built", "refused", "failed", "not reached", "median time"]
    return section("Are engines built?", table("From the ONNX that is proved", header, body))


def _parity(told: Told) -> Html:
    rows = {(r["model"], r["backend"]): r for r in told["rows"] if r["stage"] == "parity"}
    backends = list(dict.fromkeys(backend for _, backend in rows))
    failed = {name for (name, _), row in rows.items() if row["status"] == "fail"}  # come first
    if not rows:
        return Html()
    body = [
        [model["name"], *(_cell(rows.get((model["name"], backend))) for backend in backends)]
        for model in sorted(told["models"], key=lambda model: model["name"] not in failed)
    ]
    return section(
        "Does it compute what the module computed?",
        tag(
            "p",
            "The worst ratio of a model's golden samples: the backend's error over that of "
            "PyTorch's own float32, both against float64. Around 1 is what a right engine does. "
            "For a file in reduced precision: its smallest signal-to-noise ratio.",
            class_="quiet",
        ),
        _keys(),
        tag("div", table("Worst ratio", ["model", *backends], body), class_="scroll"),
    )


def _cell(row: Told | None) -> Html:
    if row is None:
        return Html("")
    figures = row["figures"]
    ratio, reduced, signal_db = (figures.get(n) for n in ("ratio", "reduced", "snr_db"))
    told = "" if ratio is None else f" {ratio:.2f}"
    if reduced:
        told = f" {reduced}" if signal_db is None else f" {reduced}, {signal_db:.1f} dB"
    text = _SIGNS[row["status"]] + told
    moved = len((row["figures"].get("engine") or {}).get("cpu_nodes") or ())
    aside = f"{moved} node{'s' * (moved > 1)} on the CPU" if moved else ""
    return join([mark(text, _KINDS[row["status"]]), tag("span", aside, class_="sub")])


def _keys() -> Html:
    words = {
        "pass": "passed",
        "fail": "failed",
        "open": "not available",
        "unreached": "not reached",
    }
    keys = [join([mark(_SIGNS[s], _KINDS[s]), f" {word}  "]) for s, word in words.items()]
    return tag("p", *keys, class_="quiet")


def _repeats(rows: Sequence[Told]) -> Html:
    """What came of the runs that a proof on a GPU repeats."""
    found = [(row, row["figures"]["repeats"]) for row in rows if row["figures"].get("repeats")]
    if not found:
        return Html()
    body = []
    for backend in dict.fromkeys(row["backend"] for row, _ in found):
        own = [(row["model"], told) for row, told in found if row["backend"] == backend]
        moved = [(model, told) for model, told in own if told["distinct"] > 1]
        texts = [
            f"{model}: {told['distinct']} answers, at most {_floors(told['largest'])} apart"
            for model, told in moved
        ]
        others = items("ul", texts) if texts else Html("none")
        body.append([backend, f"{len(own)}", f"{len(own) - len(moved)}", others])
    runs = found[0][1]["runs"]
    return section(
        "Is it the same every time?",
        tag("p", f"One sample of each model, run {runs} times in one session.", class_="quiet"),
        table("Answers, bit by bit", ["backend", "models", "always the same", "others"], body),
    )


def _commands(rows: Sequence[Told]) -> Html:
    found = {(row["model"], row["backend"]): row for row in rows if row["stage"] == "command"}
    if not found:
        return Html()
    backends = list(dict.fromkeys(backend for _, backend in found))
    body = [
        [f"edgeport {command}", *(_cell(found.get((command, backend))) for backend in backends)]
        for command in dict.fromkeys(command for command, _ in found)
    ]
    about = "Each as people type it, on the smallest model that it takes."
    header = ["command", *backends]
    return section("Do the commands work?", tag("p", about, class_="quiet"),
                   table("A process each", header, body))  # fmt: skip


def _floors(largest: float | None) -> str:
    return "no number of floors" if largest is None else f"{largest:.2g} floors"


def _machine(told: Told) -> Html:
    machine = told["machine"]
    here, card = machine["environment"], (machine["card"] or {}).get("gpu")
    facts = [("device", machine["device"]), ("CUDA says", machine["cuda"] or "")]
    if machine["card"] and card is None:
        facts.append(("NVML", machine["card"]["unknown"]))
    if card:
        facts += [(name.replace("_", " "), f"{value}") for name, value in card.items() if value]
    facts += [
        ("CPU", f"{here['cpu_model']}, {here['cpus']} CPUs may be used"),
        ("memory", size_text(here["memory_bytes"]) if here["memory_bytes"] else ""),
        ("container", here["container"] or "none seen"),
        ("platform", here["platform"]),
        (
            "versions",
            f"edgeport {here['edgeport']}, Python {here['python']}, NumPy {here['numpy']}",
        ),
        ("variables", ", ".join(f"{n}={value}" for n, value in here["variables"])),
        ("time given", f"{told['minutes']:g} minutes"),
    ]
    facts += [
        (name, f"{found['engine']} {found['version'] or ''} {found['provider'] or ''}".strip())
        for name, found in machine["backends"].items()
        if found["usable"]
    ]
    took = [
        [
            _STAGE_NAMES[stage],
            f"{sum(r['seconds'] for r in told['rows'] if r['stage'] == stage):.0f} s",
        ]
        for stage in STAGES
    ]
    return section(
        "Where", tag("article", pairs(facts)), table("Time of the steps", ["stage", "took"], took)
    )
