"""One invoice and one payment of a new biller, through the sandbox alone, seen to their outcomes.

What is sent is the same for a biller all day long, so trying again finds what is there and adds nothing.
"""

import asyncio
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import NAMESPACE_URL, uuid5

import aiohttp
import yaml

from services.bus.billers import Biller
from services.bus.catalog import Topic, load_catalog
from services.bus.clock import Clock
from services.bus.secrets import Secrets
from services.bus.settings import Settings
from services.events import AccountCurrent, InvoiceOutcome, PaymentOutcome
from services.operations.bif import NotSent, send_bif
from services.operations.tail import Asked, open_tail

ACCOUNTS = ("9990000001", "999-000001", "TEST-000001", "CM-99900001", "99900001", "T999000001")
"""Numbers nobody has; the first that the biller's rule takes."""
LONGEST_NUMBER = 38
DUE, PAID = "100.00", "25.00"
ANSWER_S, OUTCOME_S, KNOWN_S = 30.0, 60.0, 1.0
"""Seconds for an answer, for an outcome, and in which every replica has read of the account."""


class NotTried(Exception):
    """The trial cannot be made; the message says why and how it can."""


@dataclass(frozen=True)
class Tried:
    """What came of one thing that was sent: its outcome's state and reason, as they stand on the topic."""

    what: str
    id: str
    state: str
    reason: str | None


def require_sandbox(biller: Biller, sandbox: str) -> None:
    """Raises NotTried where one of the biller's addresses is not the sandbox's: a partner gets no trial."""
    imt = biller.imt
    urls = (biller.invoice_cloud.url, imt.payments_due, imt.datapump, imt.settings, imt.bills)
    elsewhere = sorted({_origin(url) for url in urls} - {_origin(sandbox)})
    if elsewhere:
        raise NotTried(
            f"{' and '.join(elsewhere)} is not the sandbox at {_origin(sandbox)}, and nothing is tried at a "
            "partner. Start one (`billbus run sandbox`), say where it is with --sandbox, and name its "
            f"addresses in the file: <sandbox>/imt/{biller.slug}/payments-due, …/datapump, …/settings, "
            "…/bills, and <sandbox>/ic/CloudInvoicing.asmx"
        )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def account_for(biller: Biller, asked_for: str = "") -> str:
    """An account number for the trial that the biller's rule takes; raises NotTried."""
    tried = [asked_for] if asked_for else ACCOUNTS
    found = next((each for each in tried if re.fullmatch(biller.accounts.pattern, each)), None)
    if found is None:
        raise NotTried(f"Name an account for the trial with --account: it must fit {biller.accounts.pattern}")
    return found


async def try_out(
    settings: Settings, biller: Biller, clock: Clock, *, sandbox: str, invoices: str, account: str
) -> list[Tried]:
    """Sends one invoice to our intake and lets the sandbox pay on it; what came of both.

    Raises NotTried, and Unreachable where the bus does not answer.
    """
    require_sandbox(biller, sandbox)
    day = clock.now().astimezone(biller.timezone).date()
    number = f"TRIAL-{day:%Y%m%d}-{biller.slug}"[:LONGEST_NUMBER]
    guid = str(uuid5(NAMESPACE_URL, f"billbus/onboard/{biller.slug}/{day}/{account}"))
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(sandbox.rstrip("/"), timeout=timeout, trust_env=False) as control:
        await _require_known(control, biller)
        await _open_account(control, biller, account, number)
        await _send_invoice(settings, biller, invoices, account, number, day)
        seen = _Outcomes(settings, biller, account, clock)
        invoice = await seen.first(InvoiceOutcome.TOPIC, number)
        await seen.first(AccountCurrent.TOPIC, None)
        await asyncio.sleep(KNOWN_S)
        payment = {
            "PaymentGUID": guid,
            "AccountNumber": account,
            "InvoiceNumber": number,
            "PaymentAmount": PAID,
            "PaymentDate": day.isoformat(),
        }
        told = {"biller": biller.slug, "payments": [payment]}
        played = await _ask(control, "POST", "/control/play/pay", told)
        if set(played["statuses"]) != {"200"}:
            raise NotTried(f"The payment was answered {played['statuses']}: {RESTART}")
        paid = await seen.first(PaymentOutcome.TOPIC, guid)
    return [
        Tried("invoice", number, str(invoice["state"]), invoice["reason"]),
        Tried("payment", guid, str(paid["state"]), paid["reason"]),
    ]


RESTART = "the services read the billers' files when they start; restart them and run onboard again."


async def _require_known(control: aiohttp.ClientSession, biller: Biller) -> None:
    answer = await _ask(control, "GET", "/control/billers", None)
    known = {each["slug"]: each for each in answer}
    if biller.slug not in known:
        raise NotTried(
            f"The sandbox does not know {biller.slug}: it reads the folder that its BILLBUS_BILLERS names."
        )


async def _open_account(control: aiohttp.ClientSession, biller: Biller, account: str, number: str) -> None:
    """IMT has the account with its bill; one that is there keeps what was paid on it."""
    path = f"/control/accounts/{quote(biller.slug)}/{quote(account, safe='')}"
    if await _ask(control, "GET", path, None, absent=True) is None:
        seeded = {"account": account, "current_charges": DUE, "bills": [f"B-{number}"], "cause": "invoice"}
        await _ask(control, "POST", "/control/accounts", {"biller": biller.slug, "accounts": [seeded]})


async def _ask(
    control: aiohttp.ClientSession, method: str, path: str, told: object, *, absent: bool = False
) -> Any:
    """The sandbox's answer; None for a 404 where that is one. Raises NotTried."""
    try:
        async with control.request(method, path, json=told) as reply:
            if reply.status == 404 and absent:
                return None
            if not reply.ok:
                raise NotTried(f"The sandbox answered {reply.status} to {method} {path}")
            return await reply.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise NotTried(
            f"The sandbox does not answer ({type(error).__name__}); start it: billbus run sandbox"
        ) from None


async def _send_invoice(
    settings: Settings, biller: Biller, invoices: str, account: str, number: str, day: date
) -> None:
    with tempfile.TemporaryDirectory() as aside:
        path = Path(aside) / f"{number}.bif"
        text = bif_text(settings.partners, biller, account, number, day)
        path.write_text(text, encoding="utf-8", newline="\n")
        try:
            answer = await send_bif(path, invoices, biller, Secrets(settings.secrets), lambda *_: None)
        except NotSent as error:
            raise NotTried(f"The invoices service does not answer: {error}") from None
    if answer.status in (401, 403):
        raise NotTried(f"The invoices service does not know {biller.slug} yet: {RESTART}")
    if not answer.ok or answer.body.get("refused"):
        said = answer.body.get("detail") or answer.body.get("refusals") or answer.body.get("title")
        raise NotTried(f"The invoices service did not take the invoice ({answer.status}): {said}")


def bif_text(partners: Path, biller: Biller, account: str, number: str, day: date) -> str:
    """A BIF file of one row, in the words and under the column names of the layout."""
    layout: dict[str, Any] = yaml.safe_load((partners / "bif.yaml").read_text(encoding="utf-8"))
    # YAML reads the words true and false as what they mean, also where they name something
    words = {str(meaning).lower(): found for meaning, found in layout["words"].items()}
    values = {
        "invoice_number": number,
        "account": account,
        "customer_name": "Trial of billbus onboard",
        "invoice_date": day.strftime(layout["date_format"]),
        "due_date": (day + timedelta(days=30)).strftime(layout["date_format"]),
        "past_due": "0.00",
        "current_charges": DUE,
        "balance_due": DUE,
        "minimum_due": DUE,
        "autopay": words["false"][0],
        "paperless": words["true"][0],
        "bill_id": f"B-{number}",
    }
    delimiter, first, last = layout["delimiter"], layout["first_line"], layout["last_line"]
    rows = list(_cells(layout["columns"], values))
    created = f"{datetime.combine(day, time(), UTC):%Y-%m-%dT%H:%M:%SZ}"
    lines = [
        [
            first["mark"],
            f"{first['layout']}={layout['layout']}",
            f"{first['biller']}={biller.invoice_cloud.biller_code}",
            f"{first['created']}={created}",
        ],
        [name for name, _ in rows],
        [value for _, value in rows],
        [last["mark"], f"{last['rows']}=1", *([f"{last['total']}={DUE}"] if last.get("total") else [])],
    ]
    return "".join(f"{delimiter.join(line)}\n" for line in lines)


def _cells(columns: Mapping[str, Any], values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, stated in columns.items():
        if not stated.get("optional"):
            yield name, values.get(stated.get("field") or "", "")


class _Outcomes:
    """The trial's account on the topics, from the day's beginning: an earlier trial's outcome counts too."""

    def __init__(self, settings: Settings, biller: Biller, account: str, clock: Clock) -> None:
        self._settings = settings
        self._catalog: Mapping[str, Topic] = load_catalog(settings.schemas)
        self._biller, self._account, self._clock = biller, account, clock
        today = clock.now().astimezone(biller.timezone).date()
        self._since = datetime.combine(today, time(), biller.timezone)

    async def first(self, topic: str, id_prefix: str | None) -> dict[str, Any]:
        """The first record of the account whose natural id begins so; raises NotTried after OUTCOME_S."""
        asked = Asked(
            topic=self._catalog[topic],
            biller=self._biller.slug,
            account=self._account,
            since=self._since,
        )
        deadline = self._clock.monotonic() + OUTCOME_S
        with open_tail(self._settings, asked, self._clock) as tail:
            async for line in tail.lines(lambda: self._clock.monotonic() > deadline):
                value = line.value or {}
                if value and (id_prefix is None or id_prefix in str(value.get("natural_id", ""))):
                    return value
        raise NotTried(
            f"Nothing came on {topic} within {OUTCOME_S:g} s: look at /readyz and the logs of the services."
        )
