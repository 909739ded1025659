"""Make the virtual environment, with the Python that a machine has and nothing else.

`python3 deploy/local/bootstrap.py [--dev]` leaves .venv with exactly what the lock file pins, and
does nothing when it is there already. Standard library only, and syntax that an older Python can
still read, so that it can say that it is too old.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Sequence  # noqa: UP035 - where an older Python has them too

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (3, 11)
NEEDED_BYTES = 1_200_000_000  # the packages (the Java runtime is one of them) and their downloads
RUNNING, DEVELOPMENT = "requirements.lock", "requirements-dev.lock"
SAME_AGAIN = "then run the same command again"
# What the installer writes when it fails, and what to tell a person. The first that is found counts.
FAILURES = (
    (r"No space left|Disk quota", f"The disk is full; make room, {SAME_AGAIN}."),
    (
        r"DO NOT MATCH THE HASHES",
        f"A package is not the one that was pinned (see {{log}}); ask who runs the mirror, {SAME_AGAIN}.",
    ),
    (
        r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|ConnectTimeout|"
        r"Read timed out|ReadTimeout|ConnectionReset|Network is unreachable|Connection refused|ProxyError|"
        r"IncompleteRead|SSLError",
        f"No package index could be reached; check the network and pip's configuration, {SAME_AGAIN}.",
    ),
    (
        r"No matching distribution|Could not find a version",
        f"The package index lacks a pinned package (see {{log}}); check pip's configuration, {SAME_AGAIN}.",
    ),
)


class NotPossible(Exception):
    """The environment cannot be made; the message is one sentence that says what to do."""


def check_python(version: Sequence[int], has_module: Callable[[str], bool]) -> None:
    """Raises NotPossible for a Python that is too old or came without what makes environments."""
    found = ".".join(str(number) for number in version)
    if tuple(version) < OLDEST:
        raise NotPossible(
            f"billbus needs Python 3.11 or newer and this is {found}; install one and name it, "
            "as in `make demo PYTHON=python3.12`."
        )
    if not (has_module("venv") and has_module("ensurepip")):
        raise NotPossible(
            f"This Python came without venv, as Debian's does; run `sudo apt install python{found}-venv` "
            "(or python3-venv), then run the same command again."
        )


def digest_of(root: Path, lock: str) -> str:
    """What the environment depends on: the lock and the project's own entry."""
    content = hashlib.sha256()
    for path in (root / lock, root / "pyproject.toml"):
        content.update(path.read_bytes())
    return content.hexdigest()


def installed(root: Path, lock: str) -> bool:
    stamp = root / ".venv" / f".{lock}.installed"
    return stamp.exists() and stamp.read_text() == digest_of(root, lock)


def make(root: Path, development: bool) -> None:
    """Leaves root/.venv with what the lock pins; raises NotPossible."""
    lock = DEVELOPMENT if development else RUNNING
    if installed(root, lock) and (root / ".venv" / "bin" / "python").exists():
        return
    check_python(sys.version_info[:2], lambda name: importlib.util.find_spec(name) is not None)
    if shutil.disk_usage(root).free < NEEDED_BYTES:
        raise NotPossible(
            f"{root} has less than the {NEEDED_BYTES // 1000000} MB that the packages need; "
            "make room, then run the same command again."
        )
    began = time.monotonic()
    python = make_environment(root)
    log = root / ".venv" / "install.log"
    log.write_text("")
    for done in (DEVELOPMENT, RUNNING):
        (root / ".venv" / f".{done}.installed").unlink(missing_ok=True)
    run_installer([python, "-m", "pip", *arguments_for(root, lock)], root, log, (root / lock).read_text())
    entry = ["install", "--no-deps", "--no-build-isolation", "--no-index", "--editable", str(root)]
    run_installer([python, "-m", "pip", *entry], root, log, "")
    for done in (DEVELOPMENT, RUNNING) if development else (RUNNING,):  # the first contains the second
        (root / ".venv" / f".{done}.installed").write_text(digest_of(root, done))
    print(f"Installed {lock} into .venv ({time.monotonic() - began:.0f} s).")


def arguments_for(root: Path, lock: str) -> list[str]:
    return ["install", "--require-hashes", "--no-deps", "--no-compile", "--requirement", str(root / lock)]


def make_environment(root: Path) -> str:
    """The Python of root/.venv, made new when there is none that works."""
    python = root / ".venv" / "bin" / "python"
    works = [str(python), "-c", "import pip, sys; assert sys.version_info >= (3, 11)"]
    if python.exists() and subprocess.run(works, capture_output=True).returncode == 0:
        return str(python)
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(root / ".venv")], capture_output=True, text=True
    )
    if done.returncode:
        raise NotPossible(sentence_for(done.stdout + done.stderr, root / ".venv"))
    return str(python)


def run_installer(command: list[str], root: Path, log: Path, lock_text: str) -> None:
    """Runs pip, shows how far it is, and keeps everything it says in the log."""
    wanted = len(re.findall(r"(?m)^[A-Za-z0-9_.-]+(\[.*\])?==", lock_text))
    seen = 0
    said: list[str] = []
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        with log.open("a") as file:
            for line in process.stdout:
                file.write(line)
                said.append(line)
                seen += line.startswith(("Collecting", "Requirement already satisfied", "Ignoring"))
                show(min(seen, wanted), wanted, line.startswith("Installing collected"))
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
        show_end(wanted)
    if code:
        raise NotPossible(sentence_for("".join(said), log))


def sentence_for(said: str, log: Path) -> str:
    for pattern, sentence in FAILURES:
        if re.search(pattern, said):
            return sentence.format(log=log)
    last = (
        [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines() or ["nothing"]
    )[-1]
    return f"The packages could not be installed: {last.strip()[:200]} (see {log})."


def show(seen: int, wanted: int, installing: bool) -> None:
    if not (wanted and sys.stderr.isatty()):
        return
    width = 30
    full = width * seen // wanted
    what = "installing" if installing else f"{seen}/{wanted}"
    sys.stderr.write(f"\rPackages [{'#' * full}{'.' * (width - full)}] {what}   ")
    sys.stderr.flush()


def show_end(wanted: int) -> None:
    if wanted and sys.stderr.isatty():
        sys.stderr.write("\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make .venv with what the lock file pins.")
    parser.add_argument("--dev", action="store_true", help="with the tools that tests and checks need")
    arguments = parser.parse_args()
    try:
        make(ROOT, arguments.dev)
    except NotPossible as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; run the same command again to go on.", file=sys.stderr)
        return 130
    except OSError as problem:
        print(
            f"{ROOT / '.venv'} cannot be written ({problem.strerror}); check rights and room.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
