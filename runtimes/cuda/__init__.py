"""The little of CUDA that is needed beside an engine: devices, memory, streams, events."""

__all__: list[str] = []
