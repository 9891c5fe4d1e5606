"""Every configuration of text that is claimed to be exact: TorchScript, and slowly every format.

``python scripts/bench_text.py TEXTS --formats`` asks the same of a file of real texts.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeport import deploy, runtimes
from edgeport.deploy.compilers import torchscript
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.libtorch.torchscript import open as open_torchscript
from edgeport.runtimes.session import Options
from edgeport.runtimes.text import encode
from edgeport.training.text import TextVectorizer, compile_vectorizer
from scripts.bench_text import CONFIGURATIONS, differing, every_code_point, exported, fuzz

REAL = [
    "Free entry! Win a prize, txt WIN to 80085 now... it's FREE",
    "the cat sat on the mat, and the cat's mat sat",
    "ΟΔΥΣΣΕΥΣ ΣΑΣ ΑΣ Σ A.Σ 'AΣ'B σας İSTANBUL i̇stanbul straße ﬁne x² ½ ١٢٣",
    "e\u0301clair ÉCLAIR naïve Å K 한국어 日本語 テキスト न्यूनतम ไทย ﷺ ㌀ 👨\u200d👩\u200d👧",
    "__init__ snake_case don't rock'n'roll x-y a1 1a",
    "a\u00a0b\u3000c\td\n\ne  f\x1cg\x85h",
    "",
]
"""Known texts, of which every configuration finds a term."""

TEXTS = [*REAL, *fuzz(60), "unseen words only", "\ufdfa" * 9, " "]


def name(configuration: tuple[Any, dict[str, Any]]) -> str:
    kind, options = configuration
    return f"{kind.__name__} {options}"


def fitted(
    configuration: tuple[Any, dict[str, Any]], texts: list[str]
) -> tuple[Any, TextVectorizer]:
    kind, options = configuration
    vectorizer = kind(**options).fit(texts)
    assert vectorizer.transform(texts).nnz > len(texts) / 2
    return vectorizer, compile_vectorizer(vectorizer)


def test_there_are_as_many_as_is_said() -> None:
    assert len({name(each) for each in CONFIGURATIONS}) == len(CONFIGURATIONS) >= 30


@pytest.mark.usually("stop_words", "char_wb")
@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("configuration", CONFIGURATIONS[::4], ids=name)  # the slow one has all
def test_torchscript_answers_what_scikit_learn_does(
    configuration: tuple[Any, dict[str, Any]], tmp_path: Path
) -> None:
    vectorizer, module = fitted(configuration, TEXTS)
    source = deploy.source_of(
        "text",
        module,
        {"text": torch.tensor(encode(REAL))},
        dimensions={"text": {0: "batch", 1: "characters"}},
        ranges={"characters": runtimes.Range(8, opt=80)},
    )
    torchscript.script(source, tmp_path)
    with open_torchscript(tmp_path / "model.ts", Options(threads=1)) as session:

        def ask(table: Array) -> Array:
            return session.run({"text": table})["output"]

        assert differing(vectorizer, ask, TEXTS)["different"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=name)
def test_every_format_answers_what_scikit_learn_does(
    configuration: tuple[Any, dict[str, Any]], tmp_path: Path
) -> None:
    texts = [*TEXTS, *every_code_point()[::8]]
    vectorizer, module = fitted(configuration, texts)
    asked: dict[str, Callable[[Any], Any]] = exported(module, TEXTS, tmp_path / "text.edge")
    assert list(asked) == ["ort-cpu", "libtorch", "torch", "strings"]
    found = {by: differing(vectorizer, ask, texts)["different"] for by, ask in asked.items()}
    assert found == dict.fromkeys(asked, 0)
