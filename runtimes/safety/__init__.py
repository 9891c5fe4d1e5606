"""What stands between a stranger's file and a parser: limits, private copies, child processes."""

__all__: list[str] = []
