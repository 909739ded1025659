"""Where enrolment differs: between InvoiceCloud, IMT and what was applied last."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.bus.settings import ConfigurationError
from services.cli.app import cli
from services.events import AccountCurrent, AppliedSetting, EnrollmentCurrent
from services.operations.drift import Rate, drifts_of, since
from services.operations.drift_book import Drift, DriftBook, Enrolled
from services.settings.imt import Standing
from tests.unit.parts import NOON, FakeClock

ACCOUNT, POLICY = "0000012345", "HO-1"
RANK = "001795608000000/c-1"
AT = datetime(2026, 11, 25, 12, tzinfo=UTC)


def applied(value: bool, number: str = ACCOUNT, indicator: Any = "autopay") -> AppliedSetting:
    return AppliedSetting(number=number, indicator=indicator, value=value, rank=RANK)


def account(
    *settings: AppliedSetting, autopay: bool | None = None, paperless: bool | None = None
) -> Enrolled:
    return Enrolled(ACCOUNT, "INV-1", (POLICY,), settings, autopay, paperless)


def imt(
    value: bool | None, number: str = ACCOUNT, indicator: str = "autopay"
) -> dict[str, dict[str, Standing]]:
    if value is None:
        return {number: {}}
    return {number: {indicator: Standing(value, "c-1", "S1", AT)}}


@pytest.mark.parametrize(
    ("ours", "at_imt", "at_ic", "kind"),
    [
        (True, True, True, None),
        (False, None, False, None),
        (None, None, False, None),
        (None, None, None, None),
        (True, False, True, "imt"),
        (True, None, True, "imt"),
        (True, False, None, "imt"),
        (False, True, False, "imt"),
        (True, False, False, "ours"),
        (True, True, False, "ic"),
        (False, None, True, "ic"),
        (None, None, True, "never told"),
        (None, True, False, "never told"),
    ],
)
def test_who_differs(ours: bool | None, at_imt: bool | None, at_ic: bool | None, kind: str | None) -> None:
    held = account(*([] if ours is None else [applied(ours)]), autopay=ours)
    found = [drift for drift, _ in drifts_of(held, imt(at_imt), {"autopay": at_ic})]
    assert [each.kind for each in found] == ([kind] if kind else [])


def test_a_drift_says_what_each_has_and_since_when() -> None:
    ((drift, rank),) = drifts_of(account(applied(True), autopay=True), imt(False), {"autopay": True})
    assert (drift.ours, drift.imt, drift.ic) == (True, False, True)
    assert (drift.ours_since, drift.imt_since, rank) == (AT, AT, RANK)


def test_each_number_and_each_indicator_stand_for_themselves() -> None:
    settings = (
        applied(True),
        applied(True, POLICY),
        applied(True, POLICY, "paperless"),
        applied(True, ACCOUNT, "account_link"),
    )
    held = account(*settings, autopay=True, paperless=True)
    there = imt(True) | imt(False, POLICY)
    found = [drift for drift, _ in drifts_of(held, there, {"autopay": True, "paperless": False})]
    assert [(each.number, each.indicator, each.kind) for each in found] == [
        (POLICY, "autopay", "imt"),
        (POLICY, "paperless", "ours"),
    ]


def test_a_rank_without_an_instant_says_nothing_of_when() -> None:
    assert since(RANK) == AT
    assert since("x/1") is None


def test_the_book_keeps_the_newest_of_each_account_and_what_would_be_sent(tmp_path: Path) -> None:
    current = AccountCurrent(
        biller="acme",
        account=ACCOUNT,
        normalised="12345",
        policies=(POLICY,),
        invoice_number="INV-1",
        invoice_date=date(2026, 11, 1),
        invoices=("INV-1",),
        updated_at=NOON,
    )
    enrolled = EnrollmentCurrent(
        biller="acme", account=ACCOUNT, autopay=True, applied=(applied(True),), updated_at=NOON
    )
    with DriftBook(tmp_path / "book") as book:
        for number in range(1200):
            book.account(f"{number:06d}", current)
        book.account("000007", None)
        book.account(ACCOUNT, current)
        book.enrolment(ACCOUNT, enrolled)
        book.enrolment("nobody", enrolled)
        assert len(list(book.accounts())) == book.count() == 1200
        held = next(each for each in book.accounts() if each.account == ACCOUNT)
        assert held == account(applied(True), autopay=True)
        assert held.numbers == (ACCOUNT, POLICY)
        drift = Drift(
            kind="imt", account=ACCOUNT, number=ACCOUNT, indicator="autopay", ours=True, imt=False, ic=True
        )
        book.found(drift, RANK)
        scope = f"{ACCOUNT}|{ACCOUNT}|autopay"
        book.applied_by(scope, "older", "c-0/autopay", 1, (3, 1))
        book.applied_by(scope, RANK, "c-1/autopay", 1, (3, 9))
        (resend,) = book.to_resend()
        assert (resend.partition, resend.offset, resend.value) == (3, 9, True)
        assert not book.settled("c-1/autopay", 1, "posted")
        assert book.settled("c-1/autopay", 2, "posted")
        assert (book.result(resend), book.counts()) == ("posted", {"imt": 1})
        book.ended(resend, "repaired")
        assert (book.counts(), book.results()) == ({}, {"repaired": 1})
        assert [each.result for each in book.drifts()] == ["repaired"]


async def test_calls_are_spread_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))

    monkeypatch.setattr("services.operations.drift.asyncio.sleep", sleep)
    rate = Rate(10, FakeClock())
    for _ in range(4):
        await rate.turn()
    assert slept == [0.0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--biller", "nobody"], "There is no biller 'nobody'; known are acme, "),
        (["--biller", "acme", "--yes"], "--yes does something only with --repair."),
        (["--biller", "acme", "--repair", "--yes"], "Say why, for the audit record: "),
        (["--biller", "acme", "--pii"], "Personal data is not shown here: "),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BILLBUS_PERSONAL_DATA", raising=False)
    done = CliRunner().invoke(cli, ["drift", *arguments])
    assert (done.exit_code, done.stderr.startswith(said)) == (2, True), done.stderr


def test_a_missing_secret_is_said_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLBUS_SECRETS", str(tmp_path))
    monkeypatch.setenv("BILLBUS_BOOTSTRAP", "127.0.0.1:1")
    done = CliRunner().invoke(cli, ["drift", "--biller", "acme"])
    assert isinstance(done.exception, ConfigurationError)
    assert "acme-imt-token" in str(done.exception)
