"""Word2Vec beside gensim's: words per CPU-second, human judgements of likeness, a task.

    python scripts/bench_word2vec.py TABLE TEXT LABEL [--rounds 2] [--kind skip-gram]

TABLE, TEXT and LABEL as for `edgeport train word2vec`. gensim has to be installed for this script
alone; WordSim-353 and SimLex-999 come with it. Both are given the same words of the same texts, one
thread, and the same options; rounds are interleaved, and each has another seed.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from edgeport.runtimes.inputs import Array
from edgeport.training.data import Split
from edgeport.training.text import Word2Vec, read_lines
from edgeport.training.text.corpus import read_corpus
from edgeport.training.text.fit import part
from edgeport.training.text.word2vec import Trainer

Vectors = dict[str, Array]

LONGEST = 10_000
"""Words of a text: gensim cuts there."""


def ours(texts: Sequence[Sequence[str]], asked: Word2Vec) -> Vectors:
    corpus = read_corpus(texts, 5)
    trainer = Trainer(corpus, asked)
    for _ in range(asked.epochs):
        trainer.epoch()
    return dict(zip(corpus.words, trainer.vectors, strict=True))


def gensim(texts: Sequence[Sequence[str]], asked: Word2Vec) -> Vectors:
    made = import_module("gensim.models").Word2Vec(
        texts,
        vector_size=asked.dimensions,
        window=asked.window,
        min_count=5,
        sg=int(asked.kind == "skip-gram"),
        negative=asked.negatives,
        epochs=asked.epochs,
        sample=asked.sample,
        workers=1,
        seed=asked.seed + 1,
    )
    return dict(zip(made.wv.index_to_key, made.wv.vectors, strict=True))


def likeness(vectors: Vectors, file: Path) -> float:
    """Spearman's correlation of cosines with what people said."""
    said, found = [], []
    for line in file.read_text("utf-8").splitlines():
        one, other, score = [*line.lower().split("\t"), "", ""][:3]
        if line.startswith("#") or one not in vectors or other not in vectors:
            continue
        said.append(float(score))
        a, b = vectors[one], vectors[other]
        found.append(float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)))
    correlation: Any = spearmanr(said, found)
    return float(correlation[0])


def accuracy(vectors: Vectors, texts: Sequence[Sequence[str]], labels: Sequence[str]) -> float:
    """Of a logistic regression on standardised mean vectors, on held-out texts."""
    size = len(next(iter(vectors.values())))
    means = np.zeros((len(texts), size))
    for row, text in enumerate(texts):
        known = [vectors[word] for word in text if word in vectors]
        if known:
            means[row] = np.mean(known, 0)
    train, held = part(len(texts), Split(0.2, 42, stratified=False))
    scaler: Any = StandardScaler().fit(means[train])
    names = np.array(labels)
    fitted: Any = LogisticRegression(max_iter=300).fit(scaler.transform(means[train]), names[train])
    return float(fitted.score(scaler.transform(means[held]), names[held]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("table", "text", "label"):
        parser.add_argument(name)
    parser.add_argument("--kind", choices=["skip-gram", "cbow"], default="skip-gram")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = Path(import_module("gensim").__file__ or "").parent / "test" / "test_data"
    lines = read_lines(Path(arguments.table), arguments.text, arguments.label)
    words_of: Any = CountVectorizer(token_pattern=r"(?u)\b\w+\b").build_analyzer()
    texts = [words_of(text)[:LONGEST] for text in lines.texts]
    count = sum(map(len, texts))
    makers: dict[str, Callable[..., Vectors]] = {"edgeport": ours, "gensim": gensim}
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for seed in range(arguments.rounds):
        asked = Word2Vec(kind=arguments.kind, epochs=arguments.epochs, seed=seed)
        for name, make in makers.items():
            start = time.process_time()
            vectors = make(texts, asked)
            rates[name].append(arguments.epochs * count / (time.process_time() - start))
            told = {
                "by": name,
                "kind": asked.kind,
                "seed": seed,
                "words_per_cpu_s": round(rates[name][-1]),
                "wordsim353": round(likeness(vectors, data / "wordsim353.tsv"), 4),
                "simlex999": round(likeness(vectors, data / "simlex999.txt"), 4),
                "accuracy": round(accuracy(vectors, texts, lines.labels), 4),
            }
            print(json.dumps(told), flush=True)
    ratios = [a / b for a, b in zip(rates["edgeport"], rates["gensim"], strict=True)]
    print(json.dumps({"words": count, "rate_over_gensim": round(statistics.median(ratios), 3)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
