"""A page of ours, read as a browser would."""

from collections.abc import Callable, Collection
from html.parser import HTMLParser
from typing import Any

EVIL = "<script>alert('x')</script>&\"`{0}`"

_VOID = {"meta"}


class Page(HTMLParser):
    """Every tag that is opened is closed, in order.

    Attributes:
        tags: Name and attributes of each, in order.
        words: All that is shown.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += [] if self.open[-1:] == ["style"] else data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def assert_in_order(self, parts: list[str]) -> None:
        """All of these texts are shown, each where it begins before the next."""
        found = [self.text.find(part) for part in parts]
        assert -1 not in found, parts[found.index(-1)]
        assert found == sorted(found)

    @property
    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}

    def of_class(self, name: str, tag: str | None = None) -> list[dict[str, str | None]]:
        return [
            attributes
            for found, attributes in self.tags
            if tag in (None, found) and name in (attributes.get("class") or "").split()
        ]


def assert_no_text_becomes_a_tag(
    page: Callable[..., str], *values: Any, ours: Collection[str]
) -> None:
    """Every text that is a user's, or an engine's, may have a script in it.

    Args:
        page: Made of ``values``.
        values: Plain ones, as JSON has them.
        ours: Keys in them whose texts are edgeport's.
    """
    usual, evil = Page(page(*values)), Page(page(*(_poisoned(value, ours) for value in values)))
    assert "script" not in evil.names
    assert "<script>alert('x')</script>" in evil.text
    names = {name for _, attributes in usual.tags for name in attributes}
    assert {name for _, attributes in evil.tags for name in attributes} <= names


def _poisoned(value: Any, ours: Collection[str], key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _poisoned(v, ours, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_poisoned(v, ours, key) for v in value]
    return value + EVIL if isinstance(value, str) and key not in ours else value
