from pathlib import Path

import pytest

from edgeport.deploy.diagnosis.places import Line
from edgeport.deploy.diagnosis.telling import only_tells

CODE = """\
def forward(self, x):
    if x.max() > 50:  # tells
        logger.warning("large %s" % x.max().item())  # tells
    if x.min() < 0: print(x)  # tells
    if (  # tells
        x.max()  # tells
        > 60  # tells
    ):  # tells
        self._log.info(  # tells
            x.max().item()  # tells
        )  # tells
    elif x.sum() > 5:  # tells
        logging.getLogger("model").debug("large")  # tells
    if x.max() > 70:
        print("large")  # tells
        x = x * 2
    if x.max() > 80:
        print("large")  # tells
    else:
        x = x * 3
    if x.max() > 90: print(x)
    else: x = x * 4
    if (n := x.max()) > 95:
        print("large")  # tells
    x.log()
    self.parser.error(int(x.max()))
    warnings.warn(f"{x}")  # tells
    print(f"{torch.isnan(x).sum()} of {len(x)}", self.names[0].upper())  # tells
    print(x.clamp_(max=1))
    print(getattr(x, "relu_")(), F.relu(x, inplace=True))
    print(self.norm(x), self.history.append(x))
    print(torch.exp(x, out=self.found))
    print(self.model.norm.forward(x))
    print(n := x.max())
    if x.max() > 91:
        if x.mul_(2).max() > 92: print(x)  # tells
    return x + int(x.max())
"""


def test_lines_that_only_tell_are_known(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(CODE)
    for number, code in enumerate(CODE.splitlines(), 1):
        assert only_tells(Line(str(file), number)) is code.endswith("# tells"), code


@pytest.mark.parametrize("text", ["if x:", "x = 1\x00"])
def test_what_cannot_be_read_tells_nothing(text: str, tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    assert not only_tells(Line(str(file), 1))
    file.write_text(text)
    assert not only_tells(Line(str(file), 1))
