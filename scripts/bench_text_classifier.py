"""Compare a bundle of `edgeport train text --min-df 2` with scikit-learn: labels, time per text.

python scripts/bench_text_classifier.py TABLE TEXT LABEL BUNDLE

TABLE, TEXT and LABEL are what the run was trained on. Rounds of all engines are interleaved.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from edgeport import runtimes
from edgeport.runtimes.text import encode
from edgeport.training.text import read_lines

ROUNDS = 7

Ask = Callable[[Sequence[str]], Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("table", "text", "label", "bundle"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = read_lines(Path(arguments.table), arguments.text, arguments.label)
    train, held = train_test_split(np.arange(len(lines.texts)), test_size=0.2, random_state=42)
    vectorizer: Any = TfidfVectorizer(min_df=2)
    rows = vectorizer.fit_transform([lines.texts[row] for row in train])
    fitted: Any = LogisticRegression(C=10, max_iter=1000)
    fitted.fit(rows, np.array([lines.labels[row] for row in train]))
    texts = sorted((lines.texts[row] for row in held), key=len)
    engines: dict[str, Ask] = {
        "scikit-learn": lambda part: fitted.decision_function(vectorizer.transform(part))
    }
    different = {}
    for name in ("ort-cpu", "libtorch", "torch"):
        ask = partial(_ask, runtimes.open(arguments.bundle, name, threads=1))
        labels = [ask(texts[first : first + 64]).argmax(1) for first in range(0, len(texts), 64)]
        found = fitted.classes_[np.concatenate(labels)]
        different[name] = int((found != fitted.predict(vectorizer.transform(texts))).sum())
        engines[name] = ask
    figures = {f"batch {size}": _times(engines, texts[::5], size) for size in (1, 64)}
    print(json.dumps({"texts": len(texts), "different_labels": different, "cpu_us": figures}))
    return 1 if any(different.values()) else 0


def _ask(session: runtimes.Session, texts: Sequence[str]) -> Any:
    return session.run({"text": encode(texts)})["logits"]


def _times(engines: dict[str, Ask], texts: Sequence[str], size: int) -> dict[str, int]:
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, ask in engines.items():
            start = time.process_time()
            for first in range(0, len(texts), size):
                ask(texts[first : first + size])
            taken[name].append((time.process_time() - start) / len(texts) * 1e6)
    return {name: round(statistics.median(found)) for name, found in taken.items()}


if __name__ == "__main__":
    raise SystemExit(main())
