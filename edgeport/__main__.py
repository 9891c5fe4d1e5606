"""Command line: ``edgeport COMMAND``. Parses, calls, and turns errors into exit codes.

0 fine; 1 what was checked failed; 2 usage or bad input; 3 something needed is missing here;
130 interrupted.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from edgeport import __version__
from edgeport.commands import bench, doctor, export, serve, train, verify
from edgeport.runtimes import EdgeportError

COMMANDS = (train, export, verify, bench, serve, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except EdgeportError as e:
        if arguments.debug:
            raise
        print(f"edgeport: {e}", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        if arguments.debug:
            raise
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough: we are on our way out
        print("edgeport: interrupted; nothing was written", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe went away: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeport",
        description="Take a PyTorch model to the device it runs on, "
        "and prove that it is still the same model.",
    )
    parser.add_argument("--version", action="version", version=f"edgeport {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        child = command.add(commands)
        child.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
