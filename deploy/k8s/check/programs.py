"""The programs of a control plane, built once from their Go modules into the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.local.artifacts import cache_folder
from deploy.local.errors import LocalError

HERE = Path(__file__).parent
RELEASE = "v1.34.4"
"""Of Kubernetes; that of control_plane/go.mod."""
KWOK = "sigs.k8s.io/kwok/cmd/kwok@v0.7.0"
LIMIT_S = 3600
"""For building one program; on two busy cores the API server takes many minutes."""


@dataclass(frozen=True)
class Program:
    """A program and the package that it is built from, in a module beside this file."""

    name: str
    module: str
    package: str


ALWAYS = (
    Program("etcd", "etcd", "."),
    Program("kube-apiserver", "control_plane", "./apiserver"),
    Program("kubectl", "control_plane", "./kubectl"),
)
WITH_NODES = (
    Program("kube-controller-manager", "control_plane", "./controller-manager"),
    Program("kube-scheduler", "control_plane", "./scheduler"),
)


def build(*, nodes: bool, told: Callable[[str], None] = print) -> Path:
    """The folder with all programs, those for fake nodes too where `nodes`; builds what is not there.

    Raises LocalError where there is no Go, or a build fails.
    """
    folder = cache_folder() / f"k8s-{_digest()}"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = ALWAYS + (WITH_NODES if nodes else ())
    missing = [each for each in wanted if not (folder / each.name).exists()]
    kwok_missing = nodes and not (folder / "kwok").exists()
    if not missing and not kwok_missing:
        return folder
    go = shutil.which("go")
    if go is None:
        raise LocalError("There is no Go, from which the API server is built; install Go 1.24 or newer.")
    for program in missing:
        told(f"building {program.name} ...")
        _build(go, program, folder)
    if kwok_missing:
        told("building kwok ...")
        _run([go, "install", "-trimpath", "-ldflags", "-s -w", KWOK], HERE, {"GOBIN": str(folder)})
    return folder


def _build(go: str, program: Program, folder: Path) -> None:
    version, (major, minor, _) = "k8s.io/component-base/version", RELEASE[1:].split(".")
    stamps = {"gitVersion": RELEASE, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s -w", *(f"-X {version}.{name}={value}" for name, value in stamps.items())])
    part = folder / f"{program.name}.part"
    _run(
        [go, "build", "-trimpath", "-ldflags", flags, "-o", str(part), program.package], HERE / program.module
    )
    part.replace(folder / program.name)


def _run(command: list[str], folder: Path, more: dict[str, str] | None = None) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", **(more or {})}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    if done.returncode:
        raise LocalError(f"{' '.join(command[:2])} failed in {folder}:\n{done.stderr[-2000:]}")


def _digest() -> str:
    """Of all sources, so that a change is built anew."""
    return _of(path.read_bytes() for path in sorted(HERE.glob("*/**/*")) if path.name in SOURCES)


SOURCES = frozenset({"go.mod", "go.sum", "main.go"})


def _of(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:12]
