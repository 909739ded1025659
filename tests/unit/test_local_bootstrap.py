"""Making .venv with a bare Python: one sentence for what is missing, and no second install."""

from __future__ import annotations

import ast
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from deploy.local import bootstrap
from deploy.local.bootstrap import NotPossible, check_python, installed, sentence_for

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "deploy/docker/requirements.lock")


def pinned(name: str) -> dict[str, Version]:
    found = re.findall(r"(?m)^([A-Za-z0-9_.-]+)(?:\[.*\])?==([^ \\]+)", (ROOT / name).read_text())
    return {canonicalize_name(package): Version(version) for package, version in found}


def test_a_python_that_is_too_old_is_told_which_to_name() -> None:
    with pytest.raises(NotPossible, match=r"needs Python 3\.11 or newer and this is 3\.9; .*PYTHON="):
        check_python((3, 9), lambda name: bool(name))


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_what_to_install(missing: str) -> None:
    with pytest.raises(NotPossible, match=r"apt install python3\.12-venv"):
        check_python((3, 12), lambda name: name != missing)


def test_a_python_that_has_all_passes() -> None:
    check_python((3, 11), lambda name: bool(name))


def test_an_older_python_can_read_it_to_say_that_it_is_too_old() -> None:
    ast.parse((ROOT / "deploy/local/bootstrap.py").read_text(), feature_version=(3, 7))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "disk is full",
        ),
        (
            "WARNING: Retrying ... NewConnectionError('...')\nERROR: No matching distribution",
            "check the network",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE",
            "not the one that was pinned",
        ),
        ("ERROR: No matching distribution found for aiokafka==0.14.0", "lacks a pinned package"),
        ("a\nERROR: something else\nb", "ERROR: something else"),
    ],
)
def test_what_the_installer_says_becomes_one_sentence(said: str, sentence: str) -> None:
    told = sentence_for(said, Path(".venv/install.log"))
    assert sentence in told
    assert "\n" not in told


def test_too_little_room_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text("")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NotPossible, match="make room"):
        bootstrap.make(tmp_path, development=False)
    assert not (tmp_path / ".venv").exists()


def test_a_changed_lock_asks_for_a_new_install(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text("one")
    assert not installed(tmp_path, "requirements.lock")
    stamp = tmp_path / ".venv" / ".requirements.lock.installed"
    stamp.write_text(bootstrap.digest_of(tmp_path, "requirements.lock"))
    assert installed(tmp_path, "requirements.lock")
    (tmp_path / "requirements.lock").write_text("two")
    assert not installed(tmp_path, "requirements.lock")


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_and_no_folder_and_hashes_everything(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"://|find-links|index-url|(?m:^[./-])", text)
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_locks_agree_and_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    running, development, image = (pinned(name) for name in LOCKS)
    assert running.items() <= development.items()
    assert image.items() <= running.items()
    for lock, asked in (
        (image, project["project"]["dependencies"]),
        (running, groups["local"]),
        (development, groups["dev"]),
    ):
        for requirement in (Requirement(text) for text in asked if isinstance(text, str)):
            assert lock[canonicalize_name(requirement.name)] in requirement.specifier
