"""``scripts/gpu-check``: the check of ``edgeport.gpu_check`` on the zoo, which is exported here."""

from pathlib import Path

from edgeport.gpu_check.__main__ import main


def zoo(folder: Path, minutes: float) -> None:
    """Export as much of the zoo as the time allows; what fails is told, and is no bundle."""
    from scripts.export_zoo import JOBS, chosen, export_all

    export_all(chosen([]), folder, minutes, JOBS)


if __name__ == "__main__":
    raise SystemExit(main(make_models=zoo))
