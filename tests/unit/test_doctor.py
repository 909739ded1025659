"""What doctor says of faults that one machine with one broker cannot have."""

import asyncio
import os
import shutil
import ssl
import sys
import zoneinfo
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import ROOT, load_settings
from services.operations.broker_clock import compare
from services.operations.doctor import Finding, summary
from services.operations.doctor_brokers import broker_settings, copies
from services.operations.doctor_machine import check_machine
from services.operations.doctor_partners import _certificate

TOPIC = "billing.payment.received.v1"
GOOD = {"group.min.session.timeout.ms": "3000", "offsets.retention.minutes": "576000"}


def partition(number: int, *, leader: int = 1, replicas: int = 3, isrs: int = 3) -> SimpleNamespace:
    return SimpleNamespace(id=number, leader=leader, replicas=range(replicas), isrs=range(isrs))


def on(*partitions: SimpleNamespace) -> dict[str, SimpleNamespace]:
    return {TOPIC: SimpleNamespace(partitions={each.id: each for each in partitions})}


def test_copies_that_are_in_step_are_nothing_to_tell() -> None:
    assert list(copies(on(partition(0), partition(1)), {TOPIC: 2})) == []


@pytest.mark.parametrize(
    ("faulty", "told"),
    [
        (partition(4, isrs=2), "partition 4 has a copy that is behind"),
        (partition(4, isrs=1), "partition 4 has fewer copies in step than min.insync.replicas (2)"),
        (partition(4, leader=-1, isrs=0), "partition 4 has no leader"),
    ],
)
def test_a_copy_that_is_behind_or_gone_is_named(faulty: SimpleNamespace, told: str) -> None:
    (finding,) = copies(on(partition(0), faulty), {TOPIC: 2})
    assert (finding.check, finding.state) == ("copies", "wrong")
    assert told in finding.what
    assert "ring" in finding.advice


def test_an_old_kafka_is_told() -> None:
    values = GOOD | {"inter.broker.protocol.version": "3.9-IV0"}
    found = broker_settings("1", values, load_settings(), load_catalog(ROOT / "schemas"))
    assert [each.what for each in found if "Kafka" in each.what] == ["Kafka 3.9-IV0"]


@pytest.fixture
def without_timezones(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ["tzdata", *(name for name in sys.modules if name.startswith("tzdata."))]:
        monkeypatch.setitem(sys.modules, name, None)
    zoneinfo.reset_tzpath(to=[])
    yield
    zoneinfo.reset_tzpath()


@pytest.mark.usefixtures("without_timezones")
def test_a_machine_without_timezones(tmp_path: Path) -> None:
    (finding,) = [each for each in check_machine(load_settings(state=tmp_path)) if each.state == "wrong"]
    assert "no timezone database" in finding.what
    assert "pip install tzdata" in finding.advice


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1024**3))
    (finding,) = check_machine(load_settings(state=tmp_path / "not-yet"))
    assert (finding.state, "has 1.0 GiB left" in finding.what) == ("wrong", True)


def test_a_state_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, as whom tests may run, may write anywhere
    (finding,) = check_machine(load_settings(state=tmp_path))
    assert (finding.state, "cannot be written" in finding.what) == ("wrong", True)
    assert "BILLBUS_STATE" in finding.advice


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """One that the system trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "trusted.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    return authority


@asynccontextmanager
async def serving(certificate: trustme.LeafCert) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("days", "state", "told"),
    [(90, "fine", ", 89 days"), (5, "note", ", 4 days"), (-1, "wrong", "its certificate has run out")],
)
async def test_a_partners_certificate(authority: trustme.CA, days: int, state: str, told: str) -> None:
    ends = datetime.now(UTC) + timedelta(days=days)
    certificate = authority.issue_cert("localhost", not_before=ends - timedelta(100), not_after=ends)
    async with serving(certificate) as port:
        finding = await _certificate("localhost", port, Clock())
    assert (finding.state, told in finding.what) == (state, True), finding
    assert state == "fine" or "partner" in finding.advice


async def test_a_partners_certificate_that_nobody_vouches_for(authority: trustme.CA) -> None:
    del authority
    async with serving(trustme.CA().issue_cert("localhost")) as port:
        finding = await _certificate("localhost", port, Clock())
    assert (finding.state, "is not trusted" in finding.what) == ("wrong", True)


def test_the_clocks_are_compared_in_the_middle_of_the_question() -> None:
    sent = datetime(2026, 11, 25, 17, 0, 0, tzinfo=UTC)
    stamped = sent - timedelta(seconds=7)
    skew, doubt = compare(sent, stamped, sent + timedelta(milliseconds=200))
    assert skew == pytest.approx(7.1)
    assert doubt == pytest.approx(0.101)


def test_the_summary_counts_each_state() -> None:
    findings = [Finding("a", "fine", ""), Finding("b", "wrong", ""), Finding("c", "note", "")]
    assert summary(findings) == "1 checks found something: 1 wrong, 1 to note, 1 fine"
    assert summary(findings[:1]) == "All 1 checks are fine"
    assert summary([findings[0], findings[2]]) == "Nothing is wrong: 1 to note, 1 fine"
