"""``edgeport train text``: fit a text classifier, compile it, save the run."""

import argparse
import json
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.commands.options import above_zero, positive
from edgeport.commands.terminal import note, show
from edgeport.commands.train_events import events
from edgeport.commands.training_options import add_seeing_options
from edgeport.commands.training_run import needs_plots, save, uninterrupted
from edgeport.runtimes.needs import needs

if TYPE_CHECKING:
    from edgeport.training.text import Fitted, Lines


@dataclass(frozen=True, slots=True)
class TextArgs:
    """What ``edgeport train text`` was asked.

    Attributes:
        vectorizer: Arguments of scikit-learn's ``TfidfVectorizer``.
    """

    data: Path
    text: str
    label: str
    output: Path
    vectorizer: dict[str, Any]
    penalty: float
    as_json: bool
    png: bool
    tensorboard: Path | None


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = kinds.add_parser(
        "text",
        help="raw text to a label: scikit-learn's tf-idf and logistic regression, compiled",
        epilog="example: edgeport train text --data sms.tsv --text 2 --label 1 -o runs/sms",
    )
    say = parser.add_argument
    say("--data", type=Path, required=True, metavar="FILE", help=".csv or .tsv, UTF-8")
    say("--text", required=True, metavar="COLUMN", help="its name, or number from 1")
    say("--label", required=True, metavar="COLUMN", help="its name, or number from 1")
    say("-o", "--output", type=Path, required=True, help="a folder for the run")
    say(
        "--penalty",
        type=above_zero,
        default=10.0,
        metavar="C",
        help="C of the logistic regression; less holds weights back more (default: 10)",
    )
    add_seeing_options(parser)
    ask = parser.add_argument_group("the vectorizer, as scikit-learn names it").add_argument
    ask("--analyzer", choices=["word", "char", "char_wb"], default="word")
    ask("--ngrams", type=_range, default=(1, 1), metavar="N[..N]", help="default: 1")
    ask(
        "--min-df", type=_share, default=1, metavar="N|SHARE", help="leave out terms in fewer texts"
    )
    ask(
        "--max-df",
        type=_share,
        default=1.0,
        metavar="N|SHARE",
        help="leave out terms in more texts",
    )
    ask("--max-features", type=positive, metavar="N", help="the most frequent terms only")
    ask("--stop-words", metavar="english|FILE", help="words to leave out, one a line")
    ask("--strip-accents", choices=["ascii", "unicode"])
    ask("--keep-case", action="store_true", help="don't lower-case")
    ask("--token-pattern", default=r"(?u)\b\w\w+\b", metavar="REGEX")
    ask("--sublinear-tf", action="store_true", help="1 + log(count) for a count")
    ask("--binary", action="store_true", help="1 for any count")
    ask("--no-idf", action="store_true", help="don't weigh rare terms more")
    ask("--norm", choices=["l1", "l2", "none"], default="l2", help="of a row (default: l2)")
    parser.set_defaults(run=lambda arguments: run(_parse(arguments)))
    return parser


def run(args: TextArgs) -> int:
    """Fit, compile, compare with scikit-learn, save."""
    with needs("training", "train"):
        from sklearn.feature_extraction.text import TfidfVectorizer

        from edgeport import training
        from edgeport.training.text import (
            fit_classifier,
            hyperparameters,
            read_lines,
            read_token_pattern,
        )
    needs_plots(args.png)
    training.check_place(args.output)
    if args.vectorizer["analyzer"] == "word":
        read_token_pattern(args.vectorizer["token_pattern"])
    vectorizer = {**args.vectorizer, "stop_words": _stop_words(args.vectorizer["stop_words"])}
    lines = read_lines(args.data, args.text, args.label)
    if lines.left_out:
        note(lines.left_out)
    with events(args.tensorboard) as told:
        with warnings.catch_warnings():
            if args.vectorizer["analyzer"] != "word":
                warnings.simplefilter("ignore")  # stop words and token patterns have no use there
            made = fit_classifier(
                lines, args.data.stem, TfidfVectorizer(**vectorizer), args.penalty
            )
        kept = made.history.kept
        found = training.Run(
            "text_classifier",
            hyperparameters(made.module),
            made.module,
            made.origin,
            made.held_out,
            made.history,
            {"accuracy": kept.held_out_score, "cross_entropy": kept.held_out_cost},
        )
        with uninterrupted():
            save(found, args.output, png=args.png)
            told.tell(kept, made.history.metric)
            _report(made, lines, args)
    return 0


def _report(made: "Fitted", lines: "Lines", args: TextArgs) -> None:
    accuracy = made.history.kept.held_out_score
    names = sorted(set(lines.labels))
    if args.as_json:
        show(
            json.dumps(
                {
                    "train_version": 1,
                    "model": "text_classifier",
                    "data": made.origin.name,
                    "texts": made.train,
                    "held_out_examples": made.tested,
                    "held_out_accuracy": accuracy,
                    "columns": made.module.columns,
                    "labels": names,
                    "different_from_scikit_learn": 0,
                }
            )
        )
        return
    output = shlex.quote(str(args.output))
    show(
        f"{args.output}  {made.module.columns:,} terms, {len(names)} labels, "
        f"held-out accuracy {accuracy:.4f} ({round(accuracy * made.tested)} of {made.tested})"
    )
    show(f"compiled: 0 of {made.tested:,} held-out texts differ from scikit-learn")
    show(f"next: edgeport export {output} -o {shlex.quote(args.output.name + '.edge')}")


def _parse(arguments: argparse.Namespace) -> TextArgs:
    return TextArgs(
        arguments.data,
        arguments.text,
        arguments.label,
        arguments.output,
        {
            "analyzer": arguments.analyzer,
            "ngram_range": arguments.ngrams,
            "min_df": arguments.min_df,
            "max_df": arguments.max_df,
            "max_features": arguments.max_features,
            "stop_words": arguments.stop_words,
            "strip_accents": arguments.strip_accents,
            "lowercase": not arguments.keep_case,
            "token_pattern": arguments.token_pattern,
            "sublinear_tf": arguments.sublinear_tf,
            "binary": arguments.binary,
            "use_idf": not arguments.no_idf,
            "norm": None if arguments.norm == "none" else arguments.norm,
        },
        arguments.penalty,
        arguments.json,
        arguments.png,
        arguments.tensorboard,
    )


def _stop_words(text: str | None) -> str | list[str] | None:
    if text is None or text == "english":
        return text
    with needs("training", "train"):
        from edgeport.training.text import read_words
    return read_words(Path(text))


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("..")
    if (
        not low.isdecimal()
        or (high and not high.isdecimal())
        or not 1 <= int(low) <= int(high or low)
    ):
        raise argparse.ArgumentTypeError(f"expected N or N..N, like 1..2, got {text!r}")
    return int(low), int(high or low)


def _share(text: str) -> int | float:
    try:
        value = int(text) if text.isdecimal() else float(text)
    except ValueError:
        value = -1
    if not (0 <= value <= 1 or (isinstance(value, int) and value >= 1)):
        raise argparse.ArgumentTypeError(f"expected a number of texts, or 0.0 to 1.0, got {text!r}")
    return value
