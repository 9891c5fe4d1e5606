"""Compare compiled vectorizers with scikit-learn: documents that differ, and time per document.

    python scripts/bench_text.py TEXTS [--formats]

TEXTS is a file with one text a line. Beside it: fuzz in many scripts, and every code point that is
assigned.
With --formats each configuration is also exported, and asked in every format.
"""

import argparse
import json
import random
import tempfile
import time
import unicodedata
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from edgeport import deploy, runtimes
from edgeport.runtimes import Range
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.text import decode, encode
from edgeport.training.text import compile_vectorizer

SIZES: list[dict[str, Any]] = [
    {},
    {"lowercase": False},
    {"ngram_range": (1, 2)},
    {"ngram_range": (2, 3)},
    {"stop_words": "english"},
    {"stop_words": "english", "ngram_range": (1, 2)},
    {"strip_accents": "unicode"},
    {"strip_accents": "ascii", "ngram_range": (1, 2)},
    {"token_pattern": r"(?u)\b\w+\b"},
    {"token_pattern": r"\b[a-z]{3,}\b", "ngram_range": (1, 2)},
    {"token_pattern": r"\S+", "max_features": 2000},
    {"token_pattern": r"[a-z']+", "ngram_range": (1, 3)},
    {"analyzer": "char", "ngram_range": (1, 3)},
    {"analyzer": "char", "ngram_range": (2, 4), "lowercase": False},
    {"analyzer": "char_wb", "ngram_range": (1, 3)},
    {"analyzer": "char_wb", "ngram_range": (4, 5)},
    {"analyzer": "char_wb", "ngram_range": (2, 3), "strip_accents": "unicode"},
]
WEIGHTS: list[tuple[Any, dict[str, Any]]] = [
    (TfidfVectorizer, {"sublinear_tf": True}),
    (CountVectorizer, {}),
]
CONFIGURATIONS = [(kind, {**size, **weight}) for size in SIZES for kind, weight in WEIGHTS]
ROWS = 64


def fuzz(count: int) -> list[str]:
    generator = random.Random(0)
    blocks = [(0, 0x80), (0x80, 0x250), (0x300, 0x530), (0x590, 0x700), (0x900, 0xE80),
              (0x10A0, 0x1400), (0x1E00, 0x2800), (0x2C00, 0x3100), (0x4E00, 0x4F00),
              (0xA640, 0xAC00), (0xAC00, 0xAD00), (0xF900, 0xFFFE), (0x10400, 0x10500),
              (0x1D400, 0x1D800), (0x1E900, 0x1E960), (0x1F300, 0x1FA00)]  # fmt: skip  # a table
    odd = (
        "\u0130\u0131\u017f\u212aßﬁ\u03a3\u03a3\u03c2\u03c3\u0345\u0307\u200d'\u2019-_ \t\n\u00a0aA"
    )
    texts = []
    for _ in range(count):
        low, high = generator.choice(blocks)
        pool = [chr(p) for p in range(low, high)] + list(odd) * 8
        texts.append("".join(generator.choices(pool, k=generator.choice((0, 1, 5, 20, 80)))))
    return texts


def every_code_point() -> list[str]:
    points = [p for p in range(0x110000) if unicodedata.category(chr(p)) not in ("Cn", "Cs", "Co")]
    pieces = [f"a{chr(p)}b {chr(p)} x{chr(p)}" for p in points]
    return [" ".join(pieces[first : first + 256]) for first in range(0, len(pieces), 256)]


def differing(vectorizer: Any, ask: Callable[[Any], Any], texts: list[str]) -> dict[str, Any]:
    ordered = sorted(texts, key=len)
    different, worst, ours_s, theirs_s = 0, 0.0, 0.0, 0.0
    for first in range(0, len(ordered), ROWS):
        part = ordered[first : first + ROWS]
        start = time.process_time()
        expected = vectorizer.transform(part)
        middle = time.process_time()
        found = ask(encode(part))
        ours_s += time.process_time() - middle
        theirs_s += middle - start
        errors = np.abs(expected.toarray() - found).max(1)
        different += int((errors > 1e-6).sum())
        worst = max(worst, float(errors.max()))
    return {
        "texts": len(texts),
        "different": different,
        "largest_error": worst,
        "ours_us": round(ours_s / len(texts) * 1e6),
        "scikit_learn_us": round(theirs_s / len(texts) * 1e6),
    }


def measure(
    kind: Any, options: dict[str, Any], corpora: dict[str, list[str]], formats: bool
) -> int:
    vectorizer = kind(**options)
    vectorizer.fit([*corpora["real"], *corpora["fuzz"], *corpora["code points"][::16]])
    module = compile_vectorizer(vectorizer)

    def eager(table: Any) -> Any:
        with torch.no_grad():
            return module(torch.tensor(table)).numpy()

    asked: dict[str, Callable[[Any], Any]] = {"eager": eager}
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        if formats:
            asked |= exported(module, corpora["real"], Path(folder) / "text.edge")
        for name, ask in asked.items():
            for corpus, texts in corpora.items():
                found = differing(vectorizer, ask, texts)
                wrong += found["different"]
                about = {"kind": kind.__name__, **options, "corpus": corpus, "by": name}
                print(json.dumps({**about, "columns": module.columns, **found}), flush=True)
    return wrong


def exported(module: Any, texts: list[str], path: Path) -> dict[str, Callable[[Any], Any]]:
    """Each format by its engine, and the file of strings by bare ONNX Runtime."""
    deploy.export(
        module,
        {"text": torch.tensor(encode(texts[:32]))},
        path,
        dimensions={"text": {0: "batch", 1: "characters"}},
        ranges={"characters": Range(8, opt=80)},
        samples=[{"text": encode(texts[:64])}],
    )
    sessions = {
        name: runtimes.open(path, name, threads=1) for name in ("ort-cpu", "libtorch", "torch")
    }
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    bare = onnxruntime.InferenceSession(path / "strings.onnx", options)
    asked: dict[str, Callable[[Any], Any]] = {
        name: partial(_logits, session) for name, session in sessions.items()
    }
    return {**asked, "strings": lambda table: bare.run(None, {"text": _strings(table)})[0]}


def _logits(session: runtimes.Session, table: Array) -> Array:
    return session.run({"text": table})["output"]


def _strings(table: Array) -> Array:
    return np.array(decode(table), dtype=object)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--formats", action="store_true")
    parser.add_argument("--most", type=int, default=2000, help="texts of the file")
    parser.add_argument("--only", type=int, nargs="*", help="configurations, by number")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    real = list(dict.fromkeys(arguments.texts.read_text("utf-8").splitlines()))[: arguments.most]
    corpora = {"real": real, "fuzz": fuzz(500), "code points": every_code_point()}
    chosen = CONFIGURATIONS
    if arguments.only is not None:
        chosen = [CONFIGURATIONS[number] for number in arguments.only]
    wrong = sum(measure(kind, options, corpora, arguments.formats) for kind, options in chosen)
    print(json.dumps({"configurations": len(chosen), "different": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
