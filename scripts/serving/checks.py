"""Calls of clients as checks: each passes, or fails with a sentence."""

import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from scripts.serving.reference import Case, Reference, wrong


class Failed(Exception):  # noqa: N818  # what a check says of a server
    """A server did not do what was asked."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one call."""

    client: str
    call: str
    failure: str | None


@dataclass(slots=True)
class Checks:
    """The checks of one client, in the order they ran.

    Attributes:
        client: The library, with its version.
        results: So far.
    """

    client: str
    results: list[Result] = field(default_factory=list)

    def run(self, call: str, action: Callable[[], object]) -> None:
        """Run one; whatever it raises is its failure."""
        failure = None
        try:
            action()
        except Exception as e:
            place = traceback.extract_tb(e.__traceback__)[-1]
            name = "" if isinstance(e, Failed) else f"{type(e).__name__} at {place.name}: "
            failure = (name + " ".join(str(e).split()))[:300]
        self.results.append(Result(self.client, call, failure))


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server is, and what it serves.

    Attributes:
        http: Host and port.
        grpc: Host and port; ``None`` for no gRPC.
        every: The model whose inputs are of every dtype, each of which comes back reversed.
        mlp: The model of one input and ten scores.
        control: Whether the server lets clients load and unload models.
    """

    http: str
    grpc: str | None
    every: Reference
    mlp: Reference
    control: bool


def expect(condition: object, text: str) -> None:
    """Fail with ``text`` unless the condition holds."""
    if not condition:
        raise Failed(text)


def equal(found: object, expected: object, what: str) -> None:
    """Fail unless two values are equal."""
    expect(found == expected, f"{what} is {found!r}, expected {expected!r}")


def right(case: Case, as_numpy: Callable[[str], Any], names: Sequence[str] | None = None) -> None:
    """Fail unless an answer is that of the same bundle in this process."""
    wanted = {name: case.outputs[name] for name in names or case.outputs}
    found = {name: as_numpy(name) for name in wanted}
    text = wrong({n: a for n, a in found.items() if a is not None}, Case(case.inputs, wanted))
    expect(text is None, str(text))


def refused(action: Callable[[], object], *words: str) -> str:
    """Fail unless a call raises, in words that name what was wrong; returns them.

    A client that loses its connection has not been refused.
    """
    try:
        action()
    except Exception as e:
        text = str(e)
        with suppress(AttributeError):
            text += f" {e.status()}"  # type: ignore[attr-defined]  # tritonclient's
        for word in words:
            expect(word in text, f"refused without {word!r}: {text}")
        return text
    raise Failed("was not refused")
