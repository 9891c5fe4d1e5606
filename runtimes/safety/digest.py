"""SHA-256 without OpenSSL where a file is small: loading OpenSSL takes 10 ms and 3.6 MB.

Python's own implementation reads 240 MB/s where OpenSSL's reads 1,475 on a processor with SHA
instructions, so that above ``SMALL_BYTES`` OpenSSL is the sooner done.
"""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from hashlib import _Hash

SMALL_BYTES: Final = 2**22


def sha256(size_bytes: int) -> "_Hash":
    """An object to ``update`` and ask for its ``hexdigest``, as hashlib has them.

    Args:
        size_bytes: How much is going to be hashed.

    Examples:
        >>> sha256(0).hexdigest()[:8]
        'e3b0c442'
    """
    own = _own() if size_bytes <= SMALL_BYTES else None
    if own is None:
        import hashlib

        return hashlib.sha256()
    found: _Hash = own()
    return found


def _own() -> Any:
    """Python's own, where this build has it; its place is not promised."""
    import importlib

    for module in ("_sha2", "_sha256"):  # 3.12 and later, 3.11
        try:
            return importlib.import_module(module).sha256
        except (ImportError, AttributeError):
            continue
    return None
