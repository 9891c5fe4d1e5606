"""``edgeport nearest``: words whose vectors are near, and analogies."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from edgeport.commands.options import positive
from edgeport.commands.terminal import plain, show, table
from edgeport.runtimes import UsageError
from edgeport.runtimes.needs import needs


@dataclass(frozen=True, slots=True)
class NearestArgs:
    """What ``edgeport nearest`` was asked."""

    run: Path
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    count: int
    as_json: bool


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "nearest",
        help="the words nearest to a word, or to a sum of words, in a run of word2vec",
        epilog="example: edgeport nearest runs/words king woman --minus man",
    )
    parser.add_argument("model", type=Path, help="a run folder")
    parser.add_argument("words", nargs="+", metavar="WORD", help="several are added")
    parser.add_argument("--minus", nargs="+", default=[], metavar="WORD", help="taken away")
    parser.add_argument("--count", type=positive, default=10, metavar="N", help="default: 10")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    parser.set_defaults(
        run=lambda a: run(NearestArgs(a.model, tuple(a.words), tuple(a.minus), a.count, a.json))
    )
    return parser


def run(args: NearestArgs) -> int:
    """Load the run, and print words with their cosines."""
    with needs("a run", "train"):
        from edgeport.training import load
        from edgeport.training.text import WordVectors, nearest
    found = load(args.run)
    if not isinstance(found.module, WordVectors):
        raise UsageError(
            f"{args.run} is a run of {found.model}, which has no vectors of words",
            remedy="make one: edgeport train word2vec --data corpus.txt -o runs/words",
        )
    vectors = found.module.vectors.detach().numpy()[:-1]
    words = nearest(found.hyperparameters["words"], vectors, args.plus, args.minus, args.count)
    if args.as_json:
        told = [{"word": word, "cosine": cosine} for word, cosine in words]
        show(json.dumps({"nearest_version": 1, "nearest": told}))
    else:
        rows = [[plain(word), f"{cosine:.4f}"] for word, cosine in words]
        show(table(["word", "cosine"], rows, right=[1]))
    return 0
