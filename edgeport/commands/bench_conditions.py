"""Where and how a benchmark was measured, for its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeport.commands.bench_figures import wide_table
from edgeport.commands.html_page import Html, join, pairs, section, tag
from edgeport.commands.quantities import UNAVAILABLE
from edgeport.commands.terminal import size_text
from edgeport.runtimes.bench import Latency, Result


def environment(result: Result) -> Html:
    """The machine, what was asked, and what was timed; folded."""
    here = result.environment
    memory = here.memory_bytes
    facts = [
        ("CPU", here.cpu_model),
        ("CPU flags", ", ".join(here.cpu_flags) or "none that decide"),
        ("CPUs", f"{here.cpus} may be used, by affinity and cgroup"),
        ("affinity", _ranges(here.affinity) or UNAVAILABLE),
        ("governor", here.governor or UNAVAILABLE),
        ("memory", UNAVAILABLE if memory is None else size_text(memory)),
        ("load before", f"{here.load_average:.2f} in the last minute"),
        ("container", here.container or "none seen"),
        ("platform", here.platform),
        ("versions", f"edgeport {here.edgeport}, Python {here.python}, NumPy {here.numpy}"),
        ("variables", ", ".join(f"{n}={value}" for n, value in here.variables) or "none set"),
        ("mode", str(result.mode)),
        ("seed", f"{result.seed}"),
        ("time asked", f"{result.budget_s:g} s"),
        ("time taken", f"{result.elapsed_s:.1f} s, with the starts of processes"),
    ]
    engines = [
        [
            variant.label,
            _engine(variant),
            f"{variant.engine.threads}{'' if variant.spinning else ', not spinning'}",
            variant.engine.precision,
            f"{variant.sample}: {_shapes(variant.shapes)}",
            join([variant.file, " ", tag("code", variant.sha256[:12])]),
            join([variant.bundle, " ", tag("code", variant.manifest_sha256[:12])]),
        ]
        for variant in result.variants
    ]
    header = ["variant", "engine", "threads", "precision", "inputs", "file", "bundle"]
    return section(
        "Where and how",
        tag(
            "details",
            tag("summary", "the machine, the engines, the files"),
            tag("article", pairs(facts)),
            wide_table("What was timed, with the first digits of SHA-256", header, engines),
        ),
    )


def _engine(variant: Latency) -> str:
    engine = variant.engine
    only = ", its own call only" if variant.engine_only else ""
    return f"{engine.engine} {engine.version}, {engine.provider} on {engine.device}{only}"


def _shapes(shapes: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in order, those that follow one another from the first to the last.

    Examples:
        >>> _ranges((0, 1, 2, 3, 8, 10, 11))
        '0-3, 8, 10-11'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
