"""What a parity report says, in a sentence or a few, and the figures that stand beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgeport.commands.html_page import Html, pairs, tag
from edgeport.commands.proof_tables import (
    Verdict,
    decisions,
    least_signal,
    owing,
    ratio_of,
    share_of_limit,
)

Told = Mapping[str, Any]


def verdicts(told: Told) -> list[tuple[Mapping[str, Any], Verdict]]:
    """Every comparison, each with what the report says of its backend."""
    return [(backend, v) for backend in told["backends"] for v in backend["verdicts"]]


def outcome(told: Told) -> tuple[str, str]:
    """Class and sentence of the headline."""
    outcomes = {backend["outcome"] for backend in told["backends"]}
    if told["passed"]:
        return "good", " computes what PyTorch computes"
    if "fail" in outcomes:
        wrong = [b["backend"] for b in told["backends"] if b["outcome"] == "fail"]
        return "bad", f" is wrong on {', '.join(wrong)}"
    if "uninformative" in outcomes:
        return "doubt", " is not proved: the samples prove nothing"
    return "doubt", " was not verified: no backend is usable here"


def headline(told: Told) -> Html:
    """The verdict as the head of a page."""
    kind, sentence = outcome(told)
    compared = verdicts(told)
    failed = sum(v["status"] == "fail" for _, v in compared)
    passed = sum(backend["outcome"] == "pass" for backend in told["backends"])
    facts = [
        ("backends that pass", f"{passed} of {len(told['backends'])}"),
        ("samples", f"{told['samples']:,}"),
        ("outputs", f"{len(told['outputs']):,}"),
        ("comparisons", f"{len(compared):,}"),
        ("failed", f"{failed:,}" if compared else ""),
        ("decisions", decisions(_owing(told))),
    ]
    return tag(
        "header",
        tag("p", {"good": "✓", "bad": "✗"}.get(kind, "?"), class_="seal", aria_hidden="true"),
        tag("h1", told["name"], tag("em", sentence)),
        tag("p", _in_one_sentence(told), class_="lead"),
        pairs(facts),
        class_=kind,
    )


def _owing(told: Told) -> list[Verdict]:
    """Verdicts whose decisions may flip within noise alone."""
    return [
        verdict
        for backend in told["backends"]
        for verdict in (owing if backend["reduced"] else list)(backend["verdicts"])
    ]


def hottest(
    told: Told, among: Sequence[tuple[Mapping[str, Any], Verdict]]
) -> tuple[Mapping[str, Any], Verdict]:
    """The comparison that is nearest to its limit, or furthest beyond."""
    return max(
        among,
        key=lambda pair: (
            pair[1]["status"] == "fail",
            share_of_limit(pair[1], pair[0], told["thresholds"]),
        ),
    )


def _in_one_sentence(told: Told) -> str:
    measured = [(b, v) for b, v in verdicts(told) if v["figures"]["rule"] != "exact"]
    failed = [(b, v) for b, v in verdicts(told) if v["status"] == "fail"]
    if failed:
        backend, verdict = hottest(told, failed)
        return (
            f"{len(failed):,} of {len(verdicts(told)):,} comparisons failed. The worst is output "
            f"{verdict['output']} on {backend['backend']}, sample {verdict['sample']}: "
            f"{verdict['reason']}."
        )
    told_why = [b for b in told["backends"] if b["outcome"] not in ("pass", "unusable")]
    if told_why:
        return f"{told_why[0]['backend']}: {_sentence(told_why[0]['reason'])}"
    if not measured:
        return "Every output is equal." if verdicts(told) else "Nothing was run."
    backend, verdict = hottest(told, measured)
    limit = told["thresholds"]["outputs"].get(verdict["output"], told["thresholds"]["max_ratio"])
    if backend["reduced"]:
        return (
            f"In {backend['reduced']}, the signal is at least {least_signal(backend):.0f} dB "
            "above the noise."
        )
    more = ", and more on edge cases" if ratio_of(verdict) > limit else ""
    own = verdict["output"] in told["thresholds"]["outputs"]
    subject = f"Nearest to its limit is output {verdict['output']}: its" if own else "The largest"
    return (
        f"{subject} error is {ratio_of(verdict):.3g} times the rounding error that PyTorch "
        f"itself makes; {limit:g} times is allowed{more}."
    )


def _sentence(text: str) -> str:
    first = text.partition("\n")[0].rstrip(".")
    return f"{first}."
