"""A process of the stack ends when it is told to, when it must, and when its starter is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import LocalError
from deploy.local.managed import Managed, recorded, stop_recorded
from tests.deadline import until

ROOT = Path(__file__).resolve().parents[2]
WAITS = "print('up', flush=True); import threading; threading.Event().wait(60)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


def managed(folder: Path, program: str, *, detached: bool = False) -> Managed:
    return Managed("part", [sys.executable, "-I", "-S", "-c", program], folder, os.environ, detached)


def is_up(process: Managed) -> bool:
    return process.log.exists() and "up" in process.log.read_text()


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_it_is_started_watched_and_stopped(tmp_path: Path) -> None:
    process = managed(tmp_path, WAITS)
    process.start()
    process.wait_until(lambda: is_up(process), 10)
    pid = process.pid
    assert recorded(tmp_path) == {"part": pid}
    process.stop()
    assert not is_alive(pid)
    assert recorded(tmp_path) == {}
    with pytest.raises(LocalError, match="part is not running"):
        assert process.pid


def test_one_that_ends_while_it_starts_is_told_with_its_last_words(tmp_path: Path) -> None:
    process = managed(tmp_path, "raise SystemExit('the data folder is in use')")
    process.start()
    with pytest.raises(LocalError, match=r"part ended while .* the data folder is in use \(see .*part\.log"):
        process.wait_until(lambda: False, 10)


def test_one_that_does_not_get_ready_is_told_where_to_read(tmp_path: Path) -> None:
    process = managed(tmp_path, WAITS)
    process.start()
    with pytest.raises(LocalError, match=r"part was not ready after 0 s; read .*part\.log"):
        process.wait_until(lambda: False, 0.1)
    process.kill()


def test_one_that_does_not_listen_is_killed_after_its_grace(tmp_path: Path) -> None:
    process = managed(tmp_path, DEAF)
    process.start()
    process.wait_until(lambda: is_up(process), 10)
    pid = process.pid
    process.stop(grace_s=0.2)
    assert not is_alive(pid)


def test_it_can_be_killed_and_started_again(tmp_path: Path) -> None:
    process = managed(tmp_path, WAITS)
    process.start()
    first = process.pid
    process.kill()
    process.start()
    assert process.alive
    assert process.pid != first
    process.kill()


STARTER = """
import os, sys, threading
from pathlib import Path
from deploy.local.managed import Managed

waits, folder, detached = sys.argv[1:]
process = Managed("part", [sys.executable, "-c", waits], Path(folder), os.environ, detached == "detached")
process.start()
process.wait_until(lambda: "up" in process.log.read_text(), 10)
print(process.pid, flush=True)
if not process.detached:
    threading.Event().wait(60)
os._exit(0)
"""


def starter(folder: Path, kind: str) -> list[str]:
    return [sys.executable, "-c", STARTER, WAITS, str(folder), kind]


def test_kill_9_of_the_starter_leaves_nothing(tmp_path: Path) -> None:
    command = starter(tmp_path, "attached")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert is_alive(pid)
        process.kill()
    until(lambda: not is_alive(pid), what="the end of the child")


def test_a_detached_one_outlives_its_starter_until_it_is_told(tmp_path: Path) -> None:
    command = starter(tmp_path, "detached")
    pid = int(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    assert recorded(tmp_path) == {"part": pid}
    assert stop_recorded(tmp_path) == ["part"]
    assert not is_alive(pid)
    assert stop_recorded(tmp_path) == []


def test_a_pid_that_went_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pids").mkdir()
    (tmp_path / "pids" / "part.pid").write_text(f"{os.getpid()} 1\n")
    assert recorded(tmp_path) == {}
    assert stop_recorded(tmp_path) == []
    assert is_alive(os.getpid())
