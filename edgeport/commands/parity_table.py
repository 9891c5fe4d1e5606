"""A parity report as a table that a person enjoys reading."""

from collections.abc import Mapping, Sequence

from edgeport.commands.terminal import Colour, coloured, plain, plain_lines, table
from edgeport.runtimes import Report
from edgeport.runtimes.parity.report import BackendReport
from edgeport.runtimes.parity.thresholds import EDGE_LENIENCY, Precision, Thresholds
from edgeport.runtimes.parity.verdict import MEDIAN_ELEMENTS, Verdict, median_bar, worst

_HEADER = ("backend", "output", "error", "floor", "ratio", "worst on", "decisions", "verdict")
_MARKS: dict[str, tuple[str, Colour]] = {
    "pass": ("✓ pass", "green"),
    "fail": ("✗ FAIL", "red"),
    "uninformative": ("? proves nothing", "yellow"),
    "unusable": ("- not usable here", "dim"),
}


def render(report: Report) -> str:
    """One row per backend and output with its worst sample, then what has to be said."""
    rows = [list(map(plain, row)) for backend in report.backends for row in _rows(backend)]
    header = [*_HEADER]
    if all(backend.reduced for backend in report.backends):
        header[header.index("ratio")] = "signal"
    lines = [_coloured(line) for line in table(header, rows, right=(2, 3, 4)).splitlines()]
    for backend in report.backends:
        if backend.outcome != "pass":
            lines += ["", *_explain(backend)]
        if said := _on_gpu(backend):
            lines += ["", *map(plain, said)]
    return "\n".join([*lines, "", _summary(report)])


def _rows(backend: BackendReport) -> list[list[str]]:
    mark = _MARKS[backend.outcome][0]
    if not backend.verdicts:
        return [[backend.backend, "", "", "", "", "", "", mark]]
    return [
        [
            backend.backend,
            name,
            *_figures(verdict, backend.reduced),
            verdict.sample,
            _decisions([v for v in _judged(backend) if v.output == name]),
            _MARKS[verdict.status][0] if backend.failures else mark,
        ]
        for name, verdict in _worst(backend).items()
    ]


def _worst(backend: BackendReport) -> Mapping[str, Verdict]:
    """By output; in a narrower precision what is nearest to its noise, which edge cases are not."""
    if backend.reduced is None:
        return worst(backend.verdicts)
    ordered = sorted(_judged(backend), key=lambda v: (v.status != "fail", v.figures.snr_db))
    return {v.output: v for v in reversed(ordered)}


def _judged(backend: BackendReport) -> Sequence[Verdict]:
    """In a narrower precision edge cases owe no signal, and their decisions may be any."""
    if backend.reduced is None:
        return backend.verdicts
    return [v for v in backend.verdicts if v.kind != "edge" or v.status == "fail"] or (
        backend.verdicts
    )


def _figures(verdict: Verdict, reduced: Precision | None) -> list[str]:
    figures = verdict.figures
    if figures.mismatch:
        return ["differs", "", ""]
    if figures.rule == "exact":
        return [f"{figures.error_max:.0f} differ", "exact", ""]
    if reduced is not None:
        return [f"{figures.error_rms:.1e}", "", f"{figures.snr_db:.1f} dB"]
    error, floor = figures.deciding
    return [f"{error:.1e}", f"{floor:.1e}", f"{figures.ratio:.3g}"]


def _decisions(verdicts: Sequence[Verdict]) -> str:
    """A pass beside flips looks odd, unless it is said that noise alone was crossed."""
    count = sum(verdict.figures.decisions for verdict in verdicts)
    flips = sum(verdict.figures.flips for verdict in verdicts)
    if not flips:
        return f"all {count} agree" if count else ""
    passed = all(verdict.status == "pass" for verdict in verdicts)
    return f"{flips} of {count} flip" + ", within noise" * passed


def _explain(backend: BackendReport) -> list[str]:
    lines = [f"{coloured(plain(backend.backend), 'bold')}: {plain_lines(str(backend.reason))}"]
    lines += [plain_lines(f"  {v.output}, {v.sample}: {v.reason}") for v in backend.failures[:5]]
    if len(backend.failures) > 5:
        lines.append(f"  and {len(backend.failures) - 5} more: see --json")
    return [*lines, plain_lines(f"  fix: {backend.remedy}")]


def _on_gpu(backend: BackendReport) -> list[str]:
    """What a session on a GPU has to say for itself."""
    engine, lines = backend.engine, []
    if engine is not None and engine.device.startswith("cuda"):
        lines.append(f"{backend.backend} ran on {engine.device} in {engine.precision}")
        if engine.cpu_nodes:
            lines.append(f"  on the CPU, as allowed: {', '.join(engine.cpu_nodes)}")
        if backend.repeats is not None:
            lines.append(f"  {backend.repeats}")
    return list(map(plain_lines, lines))


def _summary(report: Report) -> str:
    passed = sum(backend.outcome == "pass" for backend in report.backends)
    fallback = any(v.figures.rule == "float32" for b in report.backends for v in b.verdicts)
    narrow: set[Precision] = {b.reduced for b in report.backends if b.reduced}
    absent = sum(backend.outcome == "unusable" for backend in report.backends)
    text = (
        f"{report.name}: {passed} of {len(report.backends) - absent} backends pass on "
        f"{report.samples} samples"
    )
    if absent:
        text += f" ({absent} cannot be used here)"
    for precision in sorted(narrow):
        least = report.thresholds.bar_of(precision).min_snr_db
        text += f"; {precision}: signal over noise, at least {least:g} dB"
    if any(b.reduced is None for b in report.backends):
        text += _ratios(report.thresholds)
    if fallback:
        text += "\nthe module cannot run in float64: its floor is 8 ulp of the output's scale"
    return coloured(plain_lines(text), "green" if report.passed else "red")


def _ratios(thresholds: Thresholds) -> str:
    return (
        f"; ratio = error / floor, at most {thresholds.max_ratio:g} "
        f"({median_bar(thresholds.max_ratio, MEDIAN_ELEMENTS):.3g} in the median, "
        f"{thresholds.max_ratio * EDGE_LENIENCY:g} on edge cases)"
        + "".join(f", {ratio:g} of {name}" for name, ratio in thresholds.outputs.items())
    )


def _coloured(line: str) -> str:
    for mark, colour in _MARKS.values():
        if line.endswith(mark):
            return line.removesuffix(mark) + coloured(mark, colour)
    return line
