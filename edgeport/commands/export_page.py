"""The story of an export as a page for people: the verdict first, every figure further down."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

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
    words,
)
from edgeport.commands.proof_tables import least_signal, proof_tables, ratio_of
from edgeport.commands.ratio_plot import RatioPlot
from edgeport.commands.terminal import size_text
from edgeport.commands.verify_page import walk_section
from edgeport.runtimes.sizes import sum_of
from edgeport.runtimes.structure import describe

_FORMATS: Final = {
    "onnx": "ONNX",
    "torchscript": "TorchScript",
    "pt2": "PyTorch .pt2",
    "aotinductor": "AOTInductor",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT-RTX",
    "onnx-strings": "ONNX of strings",
}
_MARKS: Final = {"proved": "✓", "built": "?", "wrong": "✗", "refused": "-", "ended": "!"}
_BEFORE: Final = "not in the bundle: what is in it was made from this"
_BFLOAT16: Final = "bfloat16"
_ROUNDED: Final = "not in the bundle: each value is rounded to bfloat16, as an engine does it"
_SCORED: Final = ("engine", "measure", "its own", "the module's", "labels", "lost, gained")
_SEARCHED: Final = ("engine", "worst found", "worst of the samples", "inputs tried")
_REASONS: Final = {
    "problem": "why not",
    "layer": "layer",
    "operator": "operator",
    "source": "your code",
    "remedy": "what to do",
}


def page(told: Mapping[str, Any]) -> str:
    """Write the page.

    Args:
        told: What ``--report out.json`` holds.
    """
    told = {**told, "attempts": _on_every_sample(told)}
    backends = [b for a in told["attempts"] for b in a["backends"] if not b["reduced"]]
    ratios = [ratio_of(v) for backend in backends for v in backend["verdicts"]]
    plot = RatioPlot.around(ratios, told["asked"]["max_ratio"])
    return document(
        f"{told['bundle']}: {'proved' if told['passed'] else 'not exported'}",
        [
            _headline(told),
            _failure(told["error"]),
            _walk(told.get("localisation"), told["asked"]["max_ratio"]),
            _signature(told["module"], told["signature"]),
            section("Good to know", items("ul", told["notes"])) if told["notes"] else "",
            _compiled(told, plot),
            _proof(told["attempts"], plot, told["asked"]),
            _asked_more(told["scores"], told["searches"]),
            _made_with(told),
        ],
    )


def _on_every_sample(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The attempts; of those proved, what NaN, Inf and a search added after the proof too."""
    whole = {_which(b): b for b in told["parity"]["backends"]} if told["passed"] else {}
    return [
        {**each, "backends": [whole.get(_which(b), b) for b in each["backends"]]}
        if each["outcome"] == "proved"
        else each
        for each in told["attempts"]
    ]


def _which(backend: Mapping[str, Any]) -> tuple[str, str, str | None]:
    return backend["backend"], backend["file"], backend["reduced"]


def _walk(found: Mapping[str, Any] | None, limit: float) -> str:
    """The way through the module, as a wrong artefact has it."""
    steps = () if found is None else found["walk"]
    return walk_section([{**s, "name": s["name"] or s["operator"]} for s in steps], limit)


def _headline(told: Mapping[str, Any]) -> Html:
    passed, made = told["passed"], told["artefacts"]
    facts = [
        ("module", told["module"] or ""),
        ("formats", ", ".join(_FORMATS[artefact["format"]] for artefact in made)),
        ("samples", str(told["parity"]["samples"]) if passed else ""),
        ("size", size_text(sum(artefact["size_bytes"] for artefact in made)) if made else ""),
        ("time", _time(told["wall_s"])),
    ]
    return tag(
        "header",
        tag("p", "✓" if passed else "✗", class_="seal", aria_hidden="true"),
        tag("h1", told["bundle"], tag("em", _verdict(told))),
        tag("p", _in_one_sentence(told), class_="lead"),
        pairs(facts),
        class_="good" if passed else "bad",
    )


def _verdict(told: Mapping[str, Any]) -> str:
    if not told["passed"]:
        return " was not exported"
    unproved = _unproved(told)
    return f" is proved, but for {unproved}" if unproved else " is proved"


def _unproved(told: Mapping[str, Any]) -> str:
    """The files that were built, and not compared with the module, for want of a GPU."""
    return " and ".join(each["file"] for each in told["artefacts"] if not each["proved"])


def _in_one_sentence(told: Mapping[str, Any]) -> str:
    backends = told["parity"]["backends"] if told["passed"] else []
    precision, least_db = told["asked"]["precision"], told["asked"]["min_signal_db"]
    narrow = [least_signal(each) for each in backends if each["reduced"] and each["verdicts"]]
    if narrow:
        return (
            f"In {precision} it answers as the PyTorch model does: the signal is at least "
            f"{min(narrow):.0f} dB above the noise; {least_db:g} dB is enough."
        )
    if told["passed"]:
        verdicts = [v for backend in backends for v in backend["verdicts"]]
        largest, allowed = max(map(ratio_of, verdicts), default=0), told["asked"]["max_ratio"]
        more = ", and more on edge cases" if largest > allowed else ""
        unproved = _unproved(told)
        but = f" but {unproved}, which needs a GPU," if unproved else ""
        return (
            f"Every file in it{but} answers as the PyTorch model does: the largest error is "
            f"{largest:.3g} times the rounding error that PyTorch itself makes; "
            f"{allowed:g} times is allowed{more}."
        )
    if not told["attempts"]:
        return "It ended before anything was compiled, and nothing was written."
    name = _FORMATS[told["attempts"][-1]["format"]]
    if precision and any(attempt["outcome"] == "proved" for attempt in told["attempts"]):
        name = f"{name} in {precision}"
    match told["error"]["kind"]:
        case "ParityError":
            return f"As {name}, the model gives other answers, so nothing was written."
        case "ExportError" | "ContractError":
            return f"No compiler takes the model to {name} as it is, so nothing was written."
        case _:
            return "It did not come to its end, and nothing was written."


def _failure(error: Mapping[str, str] | None) -> str:
    if error is None:
        return ""
    problem, _, more = error["problem"].partition("\n")
    return section(
        "What is wrong",
        tag("p", problem, class_="problem"),
        tag("pre", textwrap.dedent(more), tabindex="0") if more else "",
        tag("h3", "What to do"),
        tag("p", words(error["remedy"])),
        class_="failure",
    )


def _signature(module: str | None, signature: Mapping[str, Any] | None) -> str:
    if signature is None:
        return ""
    rows = [
        [tag("code", spec["name"]), way, spec["dtype"], f"[{', '.join(map(str, spec['shape']))}]"]
        for way in ("input", "output")
        for spec in signature[f"{way}s"]
    ]
    free = (s for spec in signature["inputs"] for s in spec["shape"] if isinstance(s, str))
    names = (name for name in dict.fromkeys(free) if sum_of(name) is None)
    sizes = [_range(name, signature["ranges"].get(name)) for name in names]
    nested = signature["structure"]
    return section(
        "What goes in and what comes out",
        table(f"Tensors of {module}", ("name", "direction", "type", "shape"), rows),
        tag("p", "Sizes that may change:") if sizes else "",
        items("ul", sizes),
        tag("p", "The result is nested: ", tag("code", describe(nested))) if nested else "",
    )


def _range(name: str, sizes: Mapping[str, int | None] | None) -> Html:
    sizes = sizes or {"min": 1, "max": None, "opt": None}
    end = "and up" if sizes["max"] is None else f"to {sizes['max']}"
    best = "" if sizes["opt"] is None else f", best at {sizes['opt']}"
    step = f" in steps of {sizes['step']}" if "step" in sizes else ""
    return join([tag("code", name), f": {sizes['min']} {end}{step}{best}"])


def _compiled(told: Mapping[str, Any], plot: RatioPlot) -> str:
    attempts = told["attempts"]
    if not attempts:
        return ""
    longest_s = max(a["compile_s"] + a["proof_s"] for a in attempts)
    facts = {artefact["format"]: _facts(artefact) for artefact in told["artefacts"]}
    opened = not told["passed"]  # then it is the matter
    cards = []
    for name in dict.fromkeys(a["format"] for a in attempts):
        ways = [_route(a, longest_s, plot, opened) for a in attempts if a["format"] == name]
        fact = tag("span", facts[name], class_="quiet") if name in facts else ""
        cards.append(tag("article", tag("h3", _FORMATS[name], fact), items("ol", ways)))
    steps = ", ".join(f"{s['step']} {_time(s['wall_s'])}" for s in told["steps"])
    key = tag(
        "p", tag("i", class_="compile"), "to compile ", tag("i", class_="prove"), "to prove",
        f"; before them: {steps}" if steps else "", class_="key quiet",
    )  # fmt: skip  # as it reads
    return section("How it was compiled", key, *cards)


def _facts(artefact: Mapping[str, Any]) -> str:
    details = [f"{key.replace('_', ' ')} {value}" for key, value in artefact["details"].items()]
    size = size_text(artefact["size_bytes"])
    return ", ".join([artefact["file"], size, artefact["precision"], *details])


def _route(attempt: Mapping[str, Any], longest_s: float, plot: RatioPlot, opened: bool) -> Html:
    outcome, why = attempt["outcome"], attempt["diagnosis"] or {}
    facts = [(title, words(why[key])) for key, title in _REASONS.items() if why.get(key)]
    line = tag(
        "div",
        tag("b", attempt["route"]),
        mark(f"{_MARKS[outcome]} {outcome}", outcome),
        _bar({"compile": attempt["compile_s"], "prove": attempt["proof_s"]}, longest_s),
        tag("span", _time(attempt["compile_s"] + attempt["proof_s"])),
        class_="route",
    )
    if outcome != "wrong":
        return join([line, pairs(facts)])
    computed = tag(
        "details",
        tag("summary", "what it computed"),
        *proof_tables(attempt["backends"], plot),
        open="" if opened else None,
    )
    return join([line, pairs(facts), computed])


def _bar(times_s: Mapping[str, float], longest_s: float) -> Html:
    parts = (
        tag("span", class_=kind, style=f"width:{100 * wall_s / longest_s:.1f}%")
        for kind, wall_s in times_s.items()
        if wall_s
    )
    label = ", ".join(f"{kind} {_time(wall_s)}" for kind, wall_s in times_s.items())
    return tag("span", *parts, class_="bar", role="img", aria_label=label)


def _proof(attempts: Sequence[Mapping[str, Any]], plot: RatioPlot, asked: Mapping[str, Any]) -> str:
    proved = [attempt for attempt in attempts if attempt["outcome"] == "proved"]
    if not proved:
        return ""
    about = (
        "Each engine ran every sample. The ratio is its error divided by the noise floor: the "
        "rounding error of PyTorch's own float arithmetic, measured against float64. Around 1 "
        f"it is as good as PyTorch. Dots passed, crosses failed; the limit is {plot.bar:g}, and "
        "higher for edge cases, such as inputs of zeros or of large values."
    )
    if asked["precision"]:
        about += (
            f" In {asked['precision']} the signal, the answer itself, has to be "
            f"{asked['min_signal_db']:g} dB above the error, edge cases left out."
        )
    return section(
        "The proof",
        tag("p", about, class_="quiet"),
        *(
            tag(
                "article",
                tag(
                    "h3",
                    _FORMATS[attempt["format"]],
                    *(tag("span", why, class_="quiet") for why in _outside(attempt, proved)),
                ),
                *proof_tables(attempt["backends"], plot),
            )
            for attempt in proved
        ),
    )


def _outside(attempt: Mapping[str, Any], proved: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why what was proved is not in the bundle, if it is not."""
    if attempt["route"] == _BFLOAT16:
        return [_ROUNDED]
    packed = {each["format"]: each for each in proved if each["route"] != _BFLOAT16}
    return [] if attempt is packed[attempt["format"]] else [_BEFORE]


def _asked_more(scores: Sequence[Mapping[str, Any]], searches: Sequence[Mapping[str, Any]]) -> str:
    if not scores and not searches:
        return ""
    scored = [
        [
            tag("code", each["backend"]),
            each["metric"],
            f"{each['artefact']:.4g}",
            f"{each['module']:.4g}",
            f"{each['rows']:,}",
            f"{each['lost']}, {each['gained']}" if each["metric"] == "accuracy" else "",
        ]
        for each in scores
    ]
    looked_for = [
        [
            tag("code", each["backend"]),
            *(_worst(each[key], each["unit"]) for key in ("worst", "usual")),
            f"{each['steps']:,}",
        ]
        for each in searches
    ]
    return section(
        "Beyond the samples",
        table("By your labels", _SCORED, scored, wide=True) if scored else "",
        table("A search for the worst inputs", _SEARCHED, looked_for, wide=True)
        if searches
        else "",
    )


def _worst(figure: float | None, unit: str) -> str:
    if figure is None:
        return "no noise" if unit == "dB" else "∞"
    return f"{figure:.3g} {'dB over noise' if unit == 'dB' else 'floors'}"


def _time(wall_s: float) -> str:
    return f"{wall_s:.1f} s" if wall_s >= 1 else f"{wall_s:.2g} s"


def _made_with(told: Mapping[str, Any]) -> Html:
    asked = told["asked"]
    own = "".join(f", {name} {ratio:g}" for name, ratio in asked["max_ratios"].items())
    facts = [
        ("asked for", ", ".join(str(_FORMATS.get(name, name)) for name in asked["formats"])),
        ("opset", "" if asked["opset"] is None else str(asked["opset"])),
        ("target", asked["target"] or ""),
        ("precision", asked["precision"] or ""),
        ("limit", f"error at most {asked['max_ratio']:g} times the noise floor{own}"),
        ("constant", ", ".join(asked["constant_outputs"])),
        ("made with", ", ".join(f"{name} {v}" for name, v in told["versions"].items())),
    ]
    return tag("footer", pairs(facts))
