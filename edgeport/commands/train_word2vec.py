"""``edgeport train word2vec``: vectors of words, and a classifier on their mean."""

import argparse
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.commands.options import above_zero, positive, seed
from edgeport.commands.terminal import note, progress, show
from edgeport.commands.train_events import events
from edgeport.commands.training_options import add_seeing_options
from edgeport.commands.training_run import ended, needs_plots, save, uninterrupted
from edgeport.runtimes import UsageError
from edgeport.runtimes.needs import needs

if TYPE_CHECKING:
    from edgeport.training import Epoch
    from edgeport.training.text import FittedVectors, Texts


@dataclass(frozen=True, slots=True)
class Word2VecArgs:
    """What ``edgeport train word2vec`` was asked.

    Attributes:
        training: Arguments of ``Word2Vec``.
        vectorizer: Arguments of scikit-learn's ``CountVectorizer``.
    """

    data: Path
    text: str | None
    label: str | None
    output: Path
    training: dict[str, Any]
    vectorizer: dict[str, Any]
    least: int
    penalty: float
    as_json: bool
    png: bool
    tensorboard: Path | None


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = kinds.add_parser(
        "word2vec",
        help="vectors of words from texts, and a classifier of texts if they have labels",
        epilog="example: edgeport train word2vec --data corpus.txt -o runs/words; "
        "then: edgeport nearest runs/words king woman --minus man",
    )
    say = parser.add_argument
    say(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help=".txt (a text per line), .csv, .tsv",
    )
    say("--text", metavar="COLUMN", help="of a table: its name, or number from 1")
    say("--label", metavar="COLUMN", help="to classify texts by; its name, or number from 1")
    say("-o", "--output", type=Path, required=True, help="a folder for the run")
    say(
        "--penalty",
        type=above_zero,
        default=1.0,
        metavar="C",
        help="C of the logistic regression; less holds weights back more (default: 1)",
    )
    add_seeing_options(parser)
    ask = parser.add_argument_group("Word2Vec").add_argument
    ask("--kind", choices=["skip-gram", "cbow"], default="skip-gram", help="default: skip-gram")
    ask("--dimensions", type=positive, default=100, metavar="N", help="of a vector (default: 100)")
    ask("--window", type=positive, default=5, metavar="N", help="words to either side (default: 5)")
    ask(
        "--negatives",
        type=positive,
        default=5,
        metavar="N",
        help="words drawn against each pair (default: 5)",
    )
    ask(
        "--sample",
        type=_share,
        default=1e-3,
        metavar="SHARE",
        help="words more frequent than this are left out at random (default: 0.001)",
    )
    ask(
        "--min-count",
        type=positive,
        default=5,
        metavar="N",
        help="rarer words are left out (default: 5)",
    )
    ask("--epochs", type=positive, default=5, metavar="N", help="default: 5")
    ask("--batch", type=positive, metavar="N", help="words in a step (default: 256, of CBOW 512)")
    ask("--lr", type=above_zero, metavar="RATE", help="default: 0.025, of CBOW 0.075")
    ask("--seed", type=seed, default=0, metavar="N", help="default: 0")
    split = parser.add_argument_group("what a word is, as scikit-learn names it").add_argument
    split("--keep-case", action="store_true", help="don't lower-case")
    split("--strip-accents", choices=["ascii", "unicode"])
    split("--token-pattern", default=r"(?u)\b\w+\b", metavar="REGEX")
    parser.set_defaults(run=lambda arguments: run(_parse(arguments)))
    return parser


def run(args: Word2VecArgs) -> int:
    """Train, compile, save."""
    with needs("training", "train"):
        from sklearn.feature_extraction.text import CountVectorizer

        from edgeport import training
        from edgeport.training.text import METRIC, Word2Vec, fit_vectors, read_token_pattern
    asked = Word2Vec(**args.training)
    needs_plots(args.png)
    training.check_place(args.output)
    read_token_pattern(args.vectorizer["token_pattern"])
    texts = _read(args)
    with events(args.tensorboard) as told, progress("training", 1000) as bar:

        def on_epoch(epoch: "Epoch") -> None:
            told.tell(epoch, METRIC)
            bar.clear()
            (note if args.as_json else show)(
                f"epoch {epoch.number}/{asked.epochs}  cost {epoch.cost:.4f}  held-out cost "
                f"{epoch.held_out_cost:.4f}  held-out {METRIC} {epoch.held_out_score:.4f}"
            )

        made = fit_vectors(
            texts,
            asked,
            CountVectorizer(**args.vectorizer),
            args.least,
            args.penalty,
            on_epoch,
            lambda share, cost: bar.update(round(1000 * share), f"cost {cost:.4f}"),
        )
    found = training.Run(
        "word2vec",
        made.hyperparameters,
        made.module,
        made.origin,
        made.held_out,
        made.history,
        made.scores,
    )
    with uninterrupted():
        save(found, args.output, png=args.png)
        _report(made, args)
        return ended(made.history, args.output)


def _read(args: Word2VecArgs) -> "Texts":
    from edgeport.training.text import Texts, read_lines, read_texts

    if args.label is None:
        texts, sha256 = read_texts(args.data, args.text)
        return Texts(args.data.stem, texts, (), sha256)
    if args.text is None:
        raise UsageError("--label without --text", remedy="name the column of the texts as well")
    lines = read_lines(args.data, args.text, args.label)
    if lines.left_out:
        note(lines.left_out)
    return Texts(args.data.stem, lines.texts, lines.labels, lines.sha256)


def _report(made: "FittedVectors", args: Word2VecArgs) -> None:
    for warning in made.history.warnings:
        note(f"warning: {warning}")
    if args.as_json:
        show(
            json.dumps(
                {
                    "train_version": 1,
                    "model": "word2vec",
                    "data": made.origin.name,
                    "texts": made.origin.examples,
                    "words": len(made.words),
                    "labels": list(made.origin.classes),
                    "scores": made.scores,
                }
            )
        )
        return
    output = shlex.quote(str(args.output))
    scores = ", ".join(
        f"{name.replace('_', ' ')} {value:.4f}" for name, value in made.scores.items()
    )
    show(f"{args.output}  {len(made.words):,} words, held-out {scores}")
    show(
        f"next: edgeport nearest {output} {shlex.quote(made.words[min(100, len(made.words) - 1)])}"
    )
    show(f"      edgeport export {output} -o {shlex.quote(args.output.name + '.edge')}")


def _parse(arguments: argparse.Namespace) -> Word2VecArgs:
    return Word2VecArgs(
        arguments.data,
        arguments.text,
        arguments.label,
        arguments.output,
        {
            "kind": arguments.kind,
            "dimensions": arguments.dimensions,
            "window": arguments.window,
            "negatives": arguments.negatives,
            "sample": arguments.sample,
            "batch": arguments.batch,
            "epochs": arguments.epochs,
            "rate": arguments.lr,
            "seed": arguments.seed,
        },
        {
            "lowercase": not arguments.keep_case,
            "strip_accents": arguments.strip_accents,
            "token_pattern": arguments.token_pattern,
        },
        arguments.min_count,
        arguments.penalty,
        arguments.json,
        arguments.png,
        arguments.tensorboard,
    )


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, got {text!r}")
    return value
