"""One file per command: it parses into one frozen dataclass, calls one function, renders."""
