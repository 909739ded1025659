"""Whom we talk to over TLS: certificates, names, versions, and connections that end in the middle."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from services.bus.partner import Outage, PartnerError, PartnerHttp, Reply, Unknown

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """One that the system trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "trusted.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    return authority


def context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(made)
    return made


@asynccontextmanager
async def serving(tls: ssl.SSLContext, answer: bytes = ANSWER) -> AsyncIterator[tuple[list[bytes], int]]:
    """What each connection was asked, and the port; `answer` is given to each request."""
    asked: list[bytes] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(b"")
        place = len(asked) - 1
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                asked[place] += await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                if answer is not ANSWER:
                    writer.transport.abort() if not answer else writer.close()
                    return
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield asked, server.sockets[0].getsockname()[1]


async def ask(port: int, host: str = "localhost", times: int = 1) -> Reply:
    async with PartnerHttp() as http:
        for _ in range(times):
            reply = await http.request(
                "POST", f"https://{host}:{port}/a", biller="acme", service="imt", deadline_s=2
            )
    return reply


async def fault(port: int, host: str = "localhost") -> PartnerError:
    with pytest.raises(PartnerError) as raised:
        await ask(port, host)
    return raised.value


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_for_the_host_is_accepted_and_its_connection_kept(
    authority: trustme.CA, host: str
) -> None:
    async with serving(context(authority.issue_cert(host))) as (asked, port):
        assert (await ask(port, host, times=3)).ok
        assert [requests.count(b"POST") for requests in asked] == [3]


@pytest.mark.parametrize("names", [["imt.example"], ["127.0.0.1"], ["*.localhost"]])
async def test_a_certificate_for_another_host_gets_nothing(authority: trustme.CA, names: list[str]) -> None:
    async with serving(context(authority.issue_cert(*names))) as (asked, port):
        error = await fault(port)
    assert isinstance(error, Outage)
    assert error.never_sent
    assert "certificate" in error.reason
    assert not any(asked)


async def test_a_certificate_that_has_run_out_gets_nothing(authority: trustme.CA) -> None:
    old = authority.issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1))
    async with serving(context(old)) as (asked, port):
        assert "certificate" in (await fault(port)).reason
    assert not any(asked)


async def test_a_peer_that_knows_only_old_tls_gets_nothing(authority: trustme.CA) -> None:
    old = context(authority.issue_cert("localhost"))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(old) as (asked, port):
        error = await fault(port)
    assert isinstance(error, Outage)
    assert error.never_sent
    assert not any(asked)


async def test_a_peer_that_wants_a_certificate_of_ours_is_no_outage_once_the_request_left(
    authority: trustme.CA,
) -> None:
    strict = context(authority.issue_cert("localhost"))
    strict.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(strict)
    async with serving(strict) as (_, port):
        error = await fault(port)
    assert isinstance(error, Unknown) == (not error.never_sent), "in TLS 1.3 it is told after the request"


@pytest.mark.parametrize("answer", [b"", ANSWER[:-1], ANSWER[:30]])
async def test_an_answer_that_breaks_off_leaves_the_effect_unknown(
    authority: trustme.CA, answer: bytes
) -> None:
    async with serving(context(authority.issue_cert("localhost")), answer) as (_, port):
        error = await fault(port)
    assert isinstance(error, Unknown)
    assert not error.never_sent
