"""A page of ours, read as a browser would."""

from html.parser import HTMLParser

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
