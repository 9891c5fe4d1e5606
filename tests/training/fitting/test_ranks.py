"""Two processes against one: the same weights, but for rounding."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgeport.runtimes import UsageError
from edgeport.training.fitting import Rank

SCRIPT = """
import sys, torch
import numpy as np
from pathlib import Path
from safetensors.torch import save_file
from torch import nn
from edgeport.training import DataSet, Labelled, Origin, Settings, Split, fit
from edgeport.training.fitting import join_group, leave_group


class Drops(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2))

    def forward(self, input):
        if self.training:
            with open(f"{sys.argv[1]}{rank.number}", "a") as file:
                print(*(37 * input[:, 2]).round().int().tolist(), file=file)
        return self.layers(input)


rank = join_group()
draw = np.random.default_rng(0)
x = draw.normal(size=(37, 3)).astype(np.float32)
y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
x[:, 2] = np.arange(37) / 37  # which row it is
part = Labelled({"input": x}, y)
data = DataSet(Origin("made", 37, "", Split(0.5, 0, stratified=False)), part, part)
torch.manual_seed(0)
module = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
history = fit(module, data, Settings(3, 10, 0.05, optimizer="SGD", options={"momentum": 0.9}))
if rank.number == 0:
    costs = torch.tensor([epoch.cost for epoch in history.epochs], dtype=torch.float64)
    save_file({**module.state_dict(), "costs": costs}, sys.argv[1])
fit(Drops(), data, Settings(2, 10, 0.05))
module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
search = {"line_search_fn": "strong_wolfe", "max_iter": 4}  # the cost says how often it is asked
history = fit(module, data, Settings(2, 37, 0.5, optimizer="LBFGS", options=search))
if rank.number == 0:
    costs = torch.tensor([epoch.cost for epoch in history.epochs], dtype=torch.float64)
    save_file({"costs": costs}, sys.argv[1] + "-searched")
leave_group()
threads = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/comm"))
assert "gloo" not in threads, threads  # one of them ends the process at its exit, now and then
"""


LOST = """
import os, socket, sys
import numpy as np
from pathlib import Path
from torch import _dynamo, nn  # what each of the processes needs is loaded before they are forked
from edgeport.runtimes import SourceError
from edgeport.training import DataSet, Labelled, Origin, Settings, Split, fit
from edgeport.training.fitting import join_group, leave_group


def train(statistics):
    rank = join_group()
    x = np.ones((20, 3), dtype=np.float32)
    x[7] = np.inf
    part = Labelled({"input": x}, np.zeros(20, np.int64))
    data = DataSet(Origin("made", 20, "", Split(0.5, 0, stratified=False)), part, part)
    norm = nn.BatchNorm1d(8) if statistics == "joined" else nn.Identity()
    module = nn.Sequential(nn.Linear(3, 8), norm, nn.ReLU(), nn.Linear(8, 2))
    try:
        fit(module, data, Settings(1, 10, 0.05))
    except SourceError as e:
        Path(f"{statistics}{rank.number}").write_text(e.problem)
    leave_group()
    threads = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/comm"))
    assert "gloo" not in threads, threads  # one ends the process at its exit, now and then


started = []
for statistics in ("joined", "none"):
    held = socket.socket()  # nobody else gets its port
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("localhost", 0))
    for number in ("0", "1"):
        child = os.fork()
        if child == 0:
            os.environ.update(RANK=number, LOCAL_RANK=number, WORLD_SIZE="2")  # as torchrun does
            os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(held.getsockname()[1]))
            train(statistics)
            os._exit(0)  # to clear torch away takes a second
        started.append((child, held))
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, _ in started))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``two`` is what two processes train, and ``two0`` and ``two1`` which rows they drop from."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "train.py").write_text(SCRIPT)
    torchrun = ("torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d")
    start(folder, "-m", *torchrun, "--rdzv-endpoint", "localhost:0", "train.py", "two")
    return folder


def start(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip  # as it reads
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_dropout_in_shares_of_other_sizes_leaves_the_order_alike(folder: Path) -> None:
    seen = [(folder / f"two{number}").read_text().splitlines() for number in (0, 1)]
    for epoch in (slice(0, 4), slice(4, 8)):
        rows = " ".join(line for lines in seen for line in lines[epoch]).split()
        assert sorted(map(int, rows)) == list(range(37))


@pytest.mark.slow
def test_a_step_that_one_process_loses_ends_all(tmp_path: Path) -> None:
    start(tmp_path, "-c", LOST)
    for statistics in ("joined", "none"):
        said = sorted((tmp_path / f"{statistics}{number}").read_text() for number in (0, 1))
        assert all(problem.startswith("the loss is n") for problem in said)
        told = [problem.partition(" (learning rate 0.05)")[2] for problem in said]
        lost = ": input 'input' is not finite in row "
        assert any(text.startswith(lost) for text in told)
        if statistics == "none":
            assert " in another process" in told


def test_two_processes_take_the_steps_of_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["train.py", "one"])
    runpy.run_path("train.py")
    for end in ("", "-searched"):
        one, two = load_file(folder / f"one{end}"), load_file(folder / f"two{end}")
        assert one.keys() == two.keys()
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_shares_are_the_whole_batch() -> None:
    for rows in (3, 7, 10):
        parts = [Rank(number, 3).share(5, 5 + rows) for number in range(3)]
        taken = [row for part in parts for row in range(part.start, part.stop)]
        assert taken == list(range(5, 5 + rows))
    assert Rank().share(2, 4) == slice(2, 4)
    with pytest.raises(UsageError, match="a batch of 2 rows cannot be shared by 3 processes"):
        Rank(0, 3).share(0, 2)
