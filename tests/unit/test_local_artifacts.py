"""The Java parts arrive whole or not at all, and a failure says what to do."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.local import LocalError
from deploy.local.artifacts import CHUNK, Artifact, Pins, fetch, load_pins, locate
from deploy.local.ports import free_port

JAR = bytes(range(256)) * 4096


def registry_archive() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        member = tarfile.TarInfo("quarkus-run.jar")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"jar"))
    return target.getvalue()


class Repository:
    """A Maven repository on this machine that can be made to fail."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut_after: int | None = None
        self.ranges: list[str] = []
        repository = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                content = repository.files.get(self.path.lstrip("/"))
                if content is None:
                    self.send_error(404)
                    return
                begin = 0
                if wanted := self.headers.get("Range"):
                    repository.ranges.append(wanted)
                    begin = int(wanted.removeprefix("bytes=").rstrip("-"))
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                self.wfile.write(content[begin : repository.cut_after])
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                """Nothing: a test has nobody to tell."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def add(self, name: str, content: bytes, packaging: str = "jar") -> Artifact:
        artifact = Artifact(
            "org.example", name, "1.0", "", packaging, len(content), hashlib.sha256(content).hexdigest()
        )
        self.files[artifact.path] = content
        return artifact

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def repository() -> Iterator[Repository]:
    running = Repository()
    yield running
    running.close()


@pytest.fixture
def pins(repository: Repository) -> Pins:
    return Pins(
        kafka=(repository.add("broker", JAR), repository.add("clients", b"clients")),
        registry=repository.add("registry", registry_archive(), "tar.gz"),
        digest="0123",
    )


def test_parts_are_fetched_once_and_found_again(repository: Repository, pins: Pins, tmp_path: Path) -> None:
    seen: list[int] = []
    parts = fetch(pins, tmp_path, sources=[repository.address], advance=seen.append)
    assert (parts.kafka / "broker-1.0.jar").read_bytes() == JAR
    assert (parts.registry / "quarkus-run.jar").read_bytes() == b"jar"
    assert sum(seen) == sum(artifact.size for artifact in pins.files)
    repository.files.clear()
    assert fetch(pins, tmp_path, sources=[repository.address]) == parts
    assert not (tmp_path / "downloads").exists()


def test_a_broken_download_says_so_and_goes_on_from_there(
    repository: Repository, pins: Pins, tmp_path: Path
) -> None:
    repository.cut_after = 2 * CHUNK + 50_000
    with pytest.raises(LocalError, match=r"broker-1\.0\.jar broke off .* run the same command again"):
        fetch(pins, tmp_path, sources=[repository.address])
    assert locate(pins, tmp_path) is None
    repository.cut_after = None
    parts = fetch(pins, tmp_path, sources=[repository.address])
    assert f"bytes={2 * CHUNK}-" in repository.ranges  # another file may have been cut off by this one
    assert (parts.kafka / "broker-1.0.jar").read_bytes() == JAR


def test_a_file_that_is_not_the_pinned_one_is_thrown_away(
    repository: Repository, pins: Pins, tmp_path: Path
) -> None:
    path = pins.kafka[0].path
    repository.files[path] = JAR[::-1]
    with pytest.raises(LocalError, match=r"broker-1\.0\.jar arrived damaged .* run the same command again"):
        fetch(pins, tmp_path, sources=[repository.address])
    assert locate(pins, tmp_path) is None
    assert not list(tmp_path.glob("**/broker*"))
    repository.files[path] = JAR
    assert locate(pins, tmp_path) is None
    assert fetch(pins, tmp_path, sources=[repository.address]) == locate(pins, tmp_path)


def test_a_jar_that_was_damaged_in_the_cache_is_fetched_again(
    repository: Repository, pins: Pins, tmp_path: Path
) -> None:
    parts = fetch(pins, tmp_path, sources=[repository.address])
    jar = parts.kafka / "broker-1.0.jar"
    jar.write_bytes(JAR[:-1] + b"x")
    assert locate(pins, tmp_path) is None
    assert (fetch(pins, tmp_path, sources=[repository.address]).kafka / jar.name).read_bytes() == JAR


def test_without_network_the_sentence_says_what_to_check(pins: Pins, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"no connection\); check the network"):
        fetch(pins, tmp_path, sources=[f"http://127.0.0.1:{free_port()}"])


def test_a_repository_without_the_file_is_not_the_end(
    repository: Repository, pins: Pins, tmp_path: Path
) -> None:
    parts = fetch(pins, tmp_path, sources=[f"{repository.address}/empty", repository.address])
    assert parts == locate(pins, tmp_path)


def test_a_file_that_no_repository_has_names_the_variable(
    repository: Repository, pins: Pins, tmp_path: Path
) -> None:
    del repository.files[pins.kafka[1].path]
    with pytest.raises(LocalError, match=r"clients-1\.0\.jar .* BILLBUS_MAVEN_REPOSITORY"):
        fetch(pins, tmp_path, sources=[repository.address])


def test_too_little_room_is_said_before_anything_is_fetched(
    repository: Repository, pins: Pins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(LocalError, match=r"make room or set BILLBUS_CACHE"):
        fetch(pins, tmp_path, sources=[repository.address])
    assert not (tmp_path / "downloads").exists()


def test_a_cache_that_cannot_be_written_names_the_variable(pins: Pins, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="BILLBUS_CACHE"):
        fetch(pins, tmp_path / "file" / "cache")


def test_every_java_part_is_pinned_by_size_and_checksum() -> None:
    pins = load_pins()
    assert len(pins.kafka) > 80
    names = [artifact.filename for artifact in pins.files]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[0-9a-f]{64}", artifact.sha256) for artifact in pins.files)
    assert {"kafka_2.13-4.3.1.jar", "apicurio-registry-app-3.3.3-all.tar.gz"} <= set(names)
