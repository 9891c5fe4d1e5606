"""The page at ``/``: one file, with all that it needs in it."""

from functools import cache
from pathlib import Path
from typing import Final

CONTENT_TYPE: Final = "text/html; charset=utf-8"

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


@cache
def read() -> bytes:
    """The page."""
    return Path(__file__).with_name("page.html").read_bytes()
