"""What a server bears: too much work, clients that leave, engines that crash, new models."""

import contextlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from handmade import stored
from served import (
    DEADLINE_S,
    WEIGHT,
    Server,
    ask,
    connections,
    cpu_ticks,
    digits,
    request,
    run_serve,
    serving,
    slow,
    slow_request,
    tensor,
    wait_until,
    wait_until_busy,
    workers,
)

INFER = "/v2/models/slow/infer"


def count(server: Server, model: str, outcome: str) -> int:
    """Read one counter."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    pattern = rf'edgeport_requests_total{{model="{model}",.*outcome="{outcome}"}} (\d+)'
    match = re.search(pattern, text)
    assert match, text
    return int(match[1])


# ---- too much


def test_more_than_can_be_done_in_time_is_refused_at_once_or_dropped(tmp_path: Path) -> None:
    with serving(slow(tmp_path), "--deadline", "300ms") as server:
        body = slow_request(server, 0.05)
        answers: list[tuple[int, float, str | None]] = []

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
            with contextlib.closing(connection):
                for _ in range(6):
                    start = time.monotonic()
                    connection.request("POST", INFER, body)
                    response = connection.getresponse()
                    response.read()
                    retry = response.headers["Retry-After"]
                    answers.append((response.status, time.monotonic() - start, retry))

        threads = [threading.Thread(target=client) for _ in range(24)]
        for thread in threads:
            thread.start()
        health = []
        while any(thread.is_alive() for thread in threads):
            start = time.monotonic()
            assert server.ask("GET", "/v2/health/ready")[0] == 200
            health.append(time.monotonic() - start)
            time.sleep(0.01)
        for thread in threads:
            thread.join()
        good = [took for status, took, _ in answers if status == 200]
        refused = [retry for status, _, retry in answers if status == 503]
        assert {status for status, _, _ in answers} <= {200, 503, 504}
        assert len(good) >= 3
        assert refused
        assert set(refused) == {"1"}
        assert max(good) < 2.0  # the queue and the batch that was running, on a busy machine
        assert np.median(health) < 0.1
        assert count(server, "slow", "shed") == len(refused)


def test_a_queue_of_few_rows_takes_no_more(tmp_path: Path) -> None:
    arguments = (slow(tmp_path), "--max-queue-rows", 2, "--deadline", "60s")
    with serving(*arguments) as server, connections(server, 6) as clients:
        body = slow_request(server, 0.5)
        for client in clients:
            client.request("POST", INFER, body)
            time.sleep(0.02)
        statuses = [client.getresponse().status for client in clients]
        assert statuses == [200, 200, 200, 503, 503, 503]


def test_a_request_may_say_how_long_it_waits(tmp_path: Path) -> None:
    with serving(slow(tmp_path), "--deadline", "60s") as server, connections(server, 2) as clients:
        body = slow_request(server, 1.5)
        shorter = json.loads(body)
        shorter["inputs"][0]["data"][0] //= 150
        for _ in range(120):  # then a slow one is a surprise
            assert server.infer(json.dumps(shorter).encode(), "slow")[0] == 200
        hurried = json.loads(body) | {"parameters": {"timeout": 500_000}}
        wait_until_busy(server, lambda: clients[0].request("POST", INFER, body))
        status, answer = ask(clients[1], "POST", INFER, hurried)
        assert status == 504
        assert re.search(r"waited \d+\.\d+ s, longer than it may", answer["error"])
        assert clients[0].getresponse().status == 200
        assert count(server, "slow", "expired") == 1


# ---- clients that leave


def unread_bytes(port: int) -> int:
    """What came to a port, and no process has read yet; connections that wait for it count too."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [row[4] for row in rows if int(row[1].partition(":")[2], 16) == port]
    assert ours
    return sum(int(waiting.partition(":")[2], 16) for waiting in ours)


@pytest.mark.parametrize("reset", [False, True])
def test_work_whose_client_has_left_is_dropped(tmp_path: Path, reset: bool) -> None:
    with serving(slow(tmp_path), "--deadline", "60s") as server, connections(server, 1) as (kept,):
        body = slow_request(server, 0.5)
        before = count(server, "slow", "success")
        kept.request("POST", INFER, body)
        head = b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(body))
        leaving = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        for client in leaving:
            client.sendall(head + body)
        wait_until(lambda: unread_bytes(server.port) == 0)
        for client in leaving:
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        assert kept.getresponse().status == 200
        wait_until(lambda: count(server, "slow", "abandoned") >= 19, 5)
        assert count(server, "slow", "success") - before <= 2


def test_a_client_that_only_says_its_last_is_answered(tmp_path: Path) -> None:
    with serving(slow(tmp_path), "--deadline", "60s") as server, connections(server, 1) as (kept,):
        body = slow_request(server, 0.3)
        kept.request("POST", INFER, body)
        with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as client:
            head = b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(body))
            client.sendall(head + body)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while part := client.recv(2**16):
                answer += part
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert b'"model_name":"slow"' in answer


def test_clients_that_are_slow_to_ask_hold_nobody_up(tmp_path: Path) -> None:
    with serving(digits(tmp_path)) as server, contextlib.ExitStack() as stack:
        for index in range(400):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(
                b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: 9\r\n"[:index]
            )
        for _ in range(20):
            assert server.infer(request())[0] == 200


def test_a_crowd_at_the_door_is_let_in_even_at_the_end(tmp_path: Path) -> None:
    """More clients than a usual backlog of 128: who does not fit in knocks again after a second."""
    with serving(digits(tmp_path)) as server, contextlib.ExitStack() as stack:
        (worker,) = workers(server)
        os.kill(worker, signal.SIGSTOP)  # it accepts nobody
        crowd = [socket.create_connection(("127.0.0.1", server.port), 0.5) for _ in range(300)]
        for client in crowd:
            stack.enter_context(client)
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\n\r\n")
            client.settimeout(DEADLINE_S)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)  # the worker must have its signal before it goes on
        os.kill(worker, signal.SIGCONT)
        assert all(client.recv(15) == b"HTTP/1.1 200 OK" for client in crowd)
        assert server.process.wait(DEADLINE_S) == 0


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))  # children begin with it
    try:
        with serving(digits(tmp_path)) as server:
            (worker,) = workers(server)
            limits = Path(f"/proc/{worker}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    most = min(before[1], 2**16)
    assert re.search(rf"Max open files +{most} ", limits)


def test_too_few_open_files_are_told_before_anything_is_tried(tmp_path: Path) -> None:
    limited = ["prlimit", "--nofile=20:20", *run_serve(digits(tmp_path), "--port", 0)]
    ended = subprocess.run(limited, capture_output=True, text=True, timeout=DEADLINE_S)
    assert ended.returncode == 3
    assert ended.stderr == (
        "edgeport: a process may have 20 open files here, and the server needs 32\n"
        "  fix: allow more: ulimit -n 1024, LimitNOFILE=1024 of systemd, "
        "--ulimit nofile=1024 of docker\n"
    )


# ---- engines that crash


@pytest.mark.usually("11")
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM])
def test_a_worker_that_dies_is_replaced(tmp_path: Path, number: signal.Signals) -> None:
    """Told to end, it makes its port deaf, which is the next one's too."""
    with serving(digits(tmp_path)) as server:
        for _ in range(2):
            (worker,) = workers(server)
            os.kill(worker, number)
            wait_until(lambda dead=worker: workers(server) not in ([], [dead]))
            assert server.infer(request())[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_S) == 0


def test_a_model_that_goes_on_killing_is_left_out_and_others_are_served(tmp_path: Path) -> None:
    arguments = (slow(tmp_path), digits(tmp_path), "--deadline", "60s", "--repository-control")
    with serving(*arguments) as server:
        endless = request(tensor(name="rounds", datatype="INT64", shape=[1], data=[10**12]))
        for _ in range(3):
            with connections(server, 1) as (client,):
                client.request("POST", INFER, json.dumps(endless))
                wait_until(lambda: rows_running(server))
                (worker,) = workers(server)
                os.kill(worker, signal.SIGSEGV)
                wait_until(lambda dead=worker: workers(server) not in ([], [dead]))
                wait_until(lambda: server.ask("GET", "/v2/health/ready")[0] == 200)
        status, answer = server.infer(endless, "slow")
        assert status == 503
        assert "it ended 3 processes within a minute" in answer["error"]
        assert server.infer(request())[0] == 200
        assert server.ask("GET", "/v2/models") == (200, {"models": ["digits"]})
        assert server.ask("GET", "/v2/models/slow/ready")[0] == 503
        assert server.ask("POST", "/v2/repository/models/slow/load") == (200, {})
        assert server.ask("GET", "/v2/models/slow/ready")[0] == 200


def rows_running(server: Server) -> bool:
    """Whether the slow model runs: its worker is busy."""
    (worker,) = workers(server) or [0]
    before = cpu_ticks(worker)
    time.sleep(0.1)
    return bool(cpu_ticks(worker) - before >= 2)  # it may have a small part of a CPU


def test_several_workers_share_port_counters_and_repository(tmp_path: Path) -> None:
    arguments = (digits(tmp_path), "--workers", 3, "--repository-control")
    with serving(*arguments) as server:
        assert len(workers(server)) == 3
        for _ in range(30):  # each on a connection of its own, to any of them
            assert server.infer(request())[0] == 200
        assert count(server, "digits", "success") == 30
        assert server.ask("POST", "/v2/repository/models/digits/unload") == (200, {})
        assert {server.infer(request())[0] for _ in range(20)} == {503}
        assert server.ask("POST", "/v2/repository/models/digits/load") == (200, {})
        assert {server.infer(request())[0] for _ in range(20)} == {200}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_S) == 0


def test_busy_clients_lose_no_answer_when_the_server_ends(tmp_path: Path) -> None:
    lost, answered = [], []

    def client(server: Server) -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
            with contextlib.closing(connection):
                try:
                    connection.connect()
                except OSError:
                    return  # it has ended
                known, keep = False, True
                try:
                    while keep:
                        status, _ = ask(connection, "POST", "/v2/models/digits/infer", request())
                        answered.append(status)
                        known, keep = True, connection.sock is not None
                except (OSError, http.client.HTTPException) as e:
                    if known or type(e) not in (ConnectionResetError, BrokenPipeError):
                        lost.append(e)  # else it came between the last accept and the port's end
                        return

    with serving(digits(tmp_path)) as server, ThreadPoolExecutor(16) as pool:
        busy = [pool.submit(client, server) for _ in range(16)]
        wait_until(lambda: len(answered) > 200)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_S) == 0
        for each in busy:
            each.result(DEADLINE_S)
    assert lost == []
    assert set(answered) == {200}


# ---- models that change


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with two versions of a model, and one that does not prove itself."""
    (tmp_path / "made").mkdir()
    path = digits(tmp_path / "made")
    repository = tmp_path / "repository"
    for version in ("1", "3"):
        shutil.copytree(path, repository / "many" / f"{version}.edge")
    shutil.copytree(path, repository / "one.edge")
    (repository / "lost+found").mkdir()
    broken = repository / "broken.edge"
    shutil.copytree(path, broken)
    spoil(broken)
    return repository


def spoil(bundle: Path) -> None:
    """Let a golden sample expect something else, with the right hash."""
    tensors = safetensors.numpy.load((bundle / "golden.safetensors").read_bytes())
    tensors["0/eager/logits"] = tensors["0/eager/logits"] + np.float32(1e-3)
    file = stored(bundle, "golden.safetensors", safetensors.numpy.save(tensors))
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["golden"] |= {"sha256": file.sha256, "size_bytes": file.size_bytes}
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_a_bundle_that_was_replaced_is_told_when_a_worker_opens_it(tmp_path: Path) -> None:
    path, log = digits(tmp_path), tmp_path / "log"
    told = f"model 'digits' version 1: {path} is not what was opened before; worker 0 serves what"
    with serving(path, log=log) as server:
        for replaced in (False, True):
            if replaced:
                manifest = json.loads((path / "manifest.json").read_text())
                (path / "manifest.json").write_text(json.dumps(manifest | {"producer": {"a": "b"}}))
            (worker,) = workers(server)
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda dead=worker: workers(server) not in ([], [dead]))
            assert server.infer(request())[0] == 200
            assert (told in log.read_text()) is replaced


def test_a_folder_without_bundles_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with serving("--model-dir", tmp_path / "empty", log=tmp_path / "log") as server:
        assert server.line.startswith("serving no model on ")
    assert "the folder holds no bundle: put NAME.edge into it" in (tmp_path / "log").read_text()


def test_a_folder_of_models_has_versions_and_leaves_out_what_is_wrong(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "many" / "v4.edge").mkdir()
    (folder / "many" / "2.edge").write_text("cut off")
    with serving("--model-dir", folder, log=tmp_path / "log") as server:
        assert server.line.startswith("serving many, one on ")
        index = server.ask("POST", "/v2/repository/index")[1]
        states = {(entry["name"], entry["version"]): entry["state"] for entry in index}
        assert states == {
            ("broken", "1"): "UNAVAILABLE",
            ("many", "1"): "READY",
            ("many", "2"): "UNAVAILABLE",
            ("many", "3"): "READY",
            ("one", "1"): "READY",
        }
        (reason,) = [entry["reason"] for entry in index if entry["version"] == "2"]
        assert "many/2.edge is not a bundle" in reason
        (reason,) = [entry["reason"] for entry in index if entry["name"] == "broken"]
        assert "model 'broken', output 'logits', sample 'real': error is" in reason
        told = (tmp_path / "log").read_text()
        assert f"{folder}/many/v4.edge is not served: its name is no version, such as 1." in told
        assert server.infer(request(), "many")[1]["model_version"] == "3"
        assert server.infer(request(), "many/versions/1")[1]["model_version"] == "1"
        status, answer = server.infer(request(), "many/versions/2")
        assert (status, "many/2.edge is not a bundle" in answer["error"]) == (503, True)
        status, answer = server.infer(request(), "many/versions/5")
        assert (status, "no version '5'; it has '1', '2', '3'" in answer["error"]) == (404, True)
        status, answer = server.infer(request(), "broken")
        assert (status, "model 'broken' version 1 is not ready" in answer["error"]) == (503, True)
        assert server.ask("GET", "/v2/health/ready") == (200, {"ready": True})


def test_a_model_is_replaced_only_by_one_that_proves_itself(folder: Path) -> None:
    with serving("--model-dir", folder, "--repository-control") as server:
        shutil.copytree(folder / "one.edge", folder / "new.edge")
        assert server.ask("POST", "/v2/repository/models/new/load") == (200, {})
        assert server.infer(request(), "new")[0] == 200
        spoil(folder / "one.edge")
        status, answer = server.ask("POST", "/v2/repository/models/one/load")
        assert (status, "output 'logits', sample 'real': error is" in answer["error"]) == (
            400,
            True,
        ), answer
        answer_of_spoiled = answer
        status, answer = server.infer(request(), "one")  # the old one
        assert status == 200
        np.testing.assert_allclose(
            answer["outputs"][0]["data"], np.array([1, 2, 3, 4.5]) @ WEIGHT + 1, rtol=1e-5
        )
        shutil.rmtree(folder / "many" / "3.edge")
        assert server.ask("POST", "/v2/repository/models/many/load") == (200, {})
        assert server.infer(request(), "many")[1]["model_version"] == "1"
        status, answer = server.ask("POST", "/v2/repository/models/lost+found/load")
        assert (status, "holds no bundle named by its version" in answer["error"]) == (404, True)
        shutil.rmtree(folder / "new.edge")
        status, answer = server.ask("POST", "/v2/repository/models/new/load")
        assert (status, "the repository holds no model 'new'" in answer["error"]) == (404, True)
        load, here = "/v2/repository/models/one/load", f"127.0.0.1:{server.port}"
        assert server.ask("POST", load, {}, Origin=f"http://{here}") == (400, answer_of_spoiled)
        for origin in ("http://elsewhere.example", "null"):
            status, answer = server.ask("POST", load, {}, Origin=origin)
            assert (status, f"a page of {origin} may not" in answer["error"]) == (403, True)
        status, answer = server.ask("POST", load, {"parameters": {"config": "{}"}})
        assert (status, "without parameters" in answer["error"]) == (400, True)


def test_a_model_that_is_replaced_answers_all_the_while(folder: Path) -> None:
    arguments = ("--model-dir", folder, "--repository-control")
    with serving(*arguments) as server, ThreadPoolExecutor(4) as pool:
        over = threading.Event()
        statuses = set()

        def client(blanks: int) -> None:  # a large body is read in a thread
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
            text = json.dumps(request(tensor(shape=[2, 4], data=[1] * 8)))
            body = text.encode() + b" " * blanks
            with contextlib.closing(connection):
                while not over.is_set():
                    statuses.add(ask(connection, "POST", "/v2/models/one/infer", body)[0])

        busy = [pool.submit(client, blanks) for blanks in (0, 0, 0, 2**20)]
        try:
            for _ in range(5):
                assert server.ask("POST", "/v2/repository/models/one/load") == (200, {})
        finally:
            over.set()  # the pool waits for its clients, whatever happened here
        for each in busy:
            each.result(DEADLINE_S)
        assert statuses == {200}
