"""The Java parts: which, where they are kept, and how they get there whole or not at all.

`artifacts.yaml` pins every file by size and sha256. They are fetched by Maven coordinate into a
cache outside the clone, each to a `.part` that becomes the file only when its checksum is right;
so whatever interrupts a download, the next call goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import yaml
from jgo.maven import MavenContext

from deploy.local.errors import LocalError

PINS = Path(__file__).with_name("artifacts.yaml")
CHUNK = 1 << 18
PARALLEL = 6
TIMEOUT_S = 30
UNPACKED_TIMES = 1.2  # the registry's archive against its unpacked files, measured 1.1

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Artifact:
    """One file of a Maven repository; `size` in bytes."""

    group: str
    name: str
    version: str
    classifier: str
    packaging: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{self.version}{classifier}.{self.packaging}"

    @property
    def path(self) -> str:
        return "/".join([*self.group.split("."), self.name, self.version, self.filename])


@dataclass(frozen=True)
class Parts:
    """Where the fetched parts are: a folder of jars, and the folder of the unpacked registry."""

    kafka: Path
    registry: Path


@dataclass(frozen=True)
class Pins:
    kafka: tuple[Artifact, ...]
    registry: Artifact
    digest: str

    @property
    def files(self) -> tuple[Artifact, ...]:
        return (*self.kafka, self.registry)


def cache_folder() -> Path:
    """${BILLBUS_CACHE}, else ~/.cache/billbus (or under ${XDG_CACHE_HOME})."""
    named = os.environ.get("BILLBUS_CACHE")
    if named:
        return Path(named).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "billbus"


def repositories() -> list[str]:
    """${BILLBUS_MAVEN_REPOSITORY} (a company's mirror), else the public one that jgo knows."""
    named = os.environ.get("BILLBUS_MAVEN_REPOSITORY")
    return [named.rstrip("/")] if named else [str(url) for url in MavenContext().remote_repos.values()]


def load_pins(path: Path = PINS) -> Pins:
    raw = path.read_bytes()
    document = yaml.safe_load(raw)
    return Pins(
        kafka=tuple(_artifact(row) for row in document["kafka"]),
        registry=_artifact(document["registry"]),
        digest=hashlib.sha256(raw).hexdigest()[:12],
    )


def _artifact(row: dict[str, str | int]) -> Artifact:
    group, name, version, *classifier = str(row["coordinate"]).split(":")
    return Artifact(
        group=group,
        name=name,
        version=version,
        classifier="".join(classifier),
        packaging=str(row.get("packaging", "jar")),
        size=int(row["size"]),
        sha256=str(row["sha256"]),
    )


def locate(pins: Pins, cache: Path) -> Parts | None:
    """The parts if they are all there, whole; None if anything is to be fetched."""
    parts = Parts(kafka=cache / f"kafka-{pins.digest}", registry=cache / f"registry-{pins.digest}")
    if not (parts.kafka.is_dir() and (parts.registry / "quarkus-run.jar").is_file()):
        return None
    for artifact in pins.kafka:
        jar = parts.kafka / artifact.filename
        if not jar.is_file() or jar.stat().st_size != artifact.size or _sha256(jar) != artifact.sha256:
            return None
    return parts


def fetch(
    pins: Pins,
    cache: Path,
    *,
    sources: list[str] | None = None,
    advance: Advance = lambda _: None,
) -> Parts:
    """Fetches what is missing into `cache`; `advance` hears of every byte that need not be fetched again.

    Raises LocalError, saying what to do, for no network, no disk space and a file that is not what
    was pinned; what arrived whole is kept for the next try.
    """
    with _locked(cache):
        if found := locate(pins, cache):
            return found
        _need_room(cache, pins)
        downloads = cache / "downloads"
        downloads.mkdir(exist_ok=True)
        _download_all(pins.files, downloads, sources or repositories(), advance)
        return _install(pins, cache, downloads)


def _install(pins: Pins, cache: Path, downloads: Path) -> Parts:
    parts = Parts(kafka=cache / f"kafka-{pins.digest}", registry=cache / f"registry-{pins.digest}")
    with _room_errors(cache):
        with _staged(parts.kafka) as folder:
            for artifact in pins.kafka:
                shutil.copyfile(downloads / artifact.filename, folder / artifact.filename)
        with _staged(parts.registry) as folder, tarfile.open(downloads / pins.registry.filename) as archive:
            if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and newer; Debian 12 has 3.11.2
                archive.extraction_filter = staticmethod(tarfile.data_filter)
            archive.extractall(folder)  # noqa: S202 - the archive is the one whose checksum is pinned
    shutil.rmtree(downloads)
    return parts


def _download_all(files: tuple[Artifact, ...], folder: Path, sources: list[str], advance: Advance) -> None:
    stopped = threading.Event()

    def advance_unless_stopped(size: int) -> None:
        if stopped.is_set():
            raise LocalError("The download was stopped; run the same command again, it goes on from there.")
        advance(size)

    with ThreadPoolExecutor(PARALLEL) as pool:
        by_size = sorted(files, key=lambda artifact: -artifact.size)
        pending = [
            pool.submit(download, artifact, folder, sources, advance_unless_stopped) for artifact in by_size
        ]
        try:
            for done in as_completed(pending):
                done.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def download(artifact: Artifact, folder: Path, sources: list[str], advance: Advance) -> Path:
    """One file, from the first repository that has it; an interrupted one goes on where it stopped."""
    target, part = folder / artifact.filename, folder / f"{artifact.filename}.part"
    if target.exists() and _sha256(target) == artifact.sha256:
        advance(artifact.size)
        return target
    for source in sources:
        try:
            found = _transfer(f"{source}/{artifact.path}", part, advance)
        except requests.RequestException as problem:
            raise LocalError(
                f"The download of {artifact.filename} broke off ({_short(problem)}); "
                "check the network and run the same command again, it goes on from there."
            ) from problem
        except OSError as problem:
            raise _no_room(folder) from problem
        if found:
            break
    else:
        raise LocalError(
            f"{artifact.filename} is in none of the repositories; "
            "set BILLBUS_MAVEN_REPOSITORY to the address of a Maven repository that has it."
        )
    if _sha256(part) != artifact.sha256:
        part.unlink()
        raise LocalError(
            f"{artifact.filename} arrived damaged (its checksum is not the pinned one) and was thrown away; "
            "run the same command again, and if it happens twice, ask who runs the mirror or the proxy."
        )
    part.replace(target)
    return target


def _transfer(url: str, part: Path, advance: Advance) -> bool:
    """Adds to `part` what is missing; False when the repository does not have the file."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, stream=True, timeout=TIMEOUT_S, headers=headers) as reply:
        if reply.status_code == 404:
            return False
        if reply.status_code == 416:  # nothing is missing, or the part is longer than the file
            advance(have)
            return True
        reply.raise_for_status()
        resumed = reply.status_code == 206
        advance(have if resumed else 0)
        with part.open("ab" if resumed else "wb") as file:
            for chunk in reply.iter_content(CHUNK):
                file.write(chunk)
                advance(len(chunk))
    return True


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder that appears under its name only when it is complete."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """One fetch at a time, whoever asks."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / ".lock").open("w")
    except OSError as problem:
        raise LocalError(
            f"{cache} cannot be written ({problem.strerror}); set BILLBUS_CACHE to a folder that can."
        ) from problem
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _room_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise _no_room(folder) from problem


def _need_room(cache: Path, pins: Pins) -> None:
    needed = sum(artifact.size for artifact in pins.kafka) * 2
    needed += int(pins.registry.size * (1 + UNPACKED_TIMES))
    if shutil.disk_usage(cache).free < needed:
        raise LocalError(
            f"{cache} has less than the {needed // 1_000_000} MB that the parts need; "
            "make room or set BILLBUS_CACHE to a folder on another disk."
        )


def _no_room(folder: Path) -> LocalError:
    return LocalError(
        f"{folder} cannot take the parts (disk full or not writable); "
        "make room or set BILLBUS_CACHE to a folder on another disk."
    )


def _short(problem: Exception) -> str:
    match problem:
        case requests.HTTPError(response=requests.Response() as reply):
            return f"HTTP {reply.status_code}"
        case requests.Timeout():
            return f"no answer for {TIMEOUT_S} s"
        case requests.ConnectionError():
            return "no connection"
    return type(problem).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
