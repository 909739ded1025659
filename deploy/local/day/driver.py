"""The day itself: IMT's people deliver, IC's side pays, changes, asks and opens, until all is settled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from deploy.local.day.bills import BifFile
from deploy.local.day.crash import Crash
from deploy.local.day.deliveries import Deliveries
from deploy.local.day.facts import Facts, Said
from deploy.local.day.judge import missing_outcomes
from deploy.local.day.partners import Answer, BrokeOff, Partners, items
from deploy.local.day.plan import REPEATS_LATER, Plan, repeat
from deploy.local.day.screen import Screen
from deploy.local.day.setup import Day
from deploy.local.day.stall import explain, last_line
from deploy.local.day.witness import ACCOUNT_CURRENT, Witness
from deploy.local.processes import SERVICES

CHUNK = 20
"""How many things one call to the sandbox's IC lets it say."""
ALONGSIDE = 6
"""How many of them are under way together."""
POLL_S = 0.1
ALIVE_EVERY_S = 3.0
KNOWN_LIMIT_S, SETTLE_LIMIT_S = 180, 180
VIEWERS = ("payments", "balances", "settings")
"""Services that resolve account numbers by a view of their own."""
HANGS = {"kind": "apply_then_hang", "delay_s": 8}
FAULTS = (
    {"service": "imt.datapump", "operation": "post_payment", "fraction": 0.02, "count": 6, **HANGS},
    {"service": "imt.settings", "operation": "post_setting", "fraction": 0.03, "count": 3, **HANGS},
    {"service": "imt.datapump", "operation": "post_payment", "kind": "slow", "fraction": 0.2, "delay_s": 0.4},
    {"service": "imt.settings", "kind": "slow", "fraction": 0.2, "delay_s": 0.3},
    {"service": "imt.payments_due", "kind": "slow", "fraction": 0.1, "delay_s": 0.3},
)
Send = Callable[[list[Said]], Awaitable[list[Answer]]]


@dataclass
class Driver:
    """Plays one day; `play` returns the facts for the judge."""

    day: Day
    partners: Partners
    witness: Witness
    screen: Screen
    files: list[BifFile]
    plan: Plan
    crash: Crash
    crew: Executor
    seed: int

    def __post_init__(self) -> None:
        self._invoices = Deliveries(self.partners, self.files)
        self._repeats: list[Said] = []

    @property
    def said(self) -> list[Said]:
        """Everything that is said on the day, in whatever state."""
        plan = self.plan
        paid = [*plan.payments, *plan.unsupported, *self._repeats]
        changed = [*plan.changes, *plan.late_changes]
        return [*self._invoices.said, *paid, *changed, *plan.rtdr, *plan.links, *plan.refusals]

    async def play(self) -> Facts:
        """The whole day; raises what ended one of its parts."""
        async with asyncio.TaskGroup() as group:
            bars = group.create_task(self._show_progress())
            watch = group.create_task(self._watch_services())
            crash = group.create_task(self._crash())
            await self._invoices.open_books()
            await self.partners.control("PUT", "/control/faults", list(FAULTS))
            await self._invoices.deliver()
            self.screen.note("The BIF files are delivered; one of them once more, to no effect.")
            await self._accounts_known()
            await self._working_hours()
            await self._evening()
            await crash
            await self._settled()
            bars.cancel()
            watch.cancel()
        return await self._facts()

    # -- the hours -------------------------------------------------------------------------------------

    async def _working_hours(self) -> None:
        plan = self.plan
        async with asyncio.TaskGroup() as group:
            for part in (
                self._say(plan.at_once, self._twice, chunk=len(plan.at_once)),
                self._say([*plan.forms, *plan.unsupported], self._form),
                self._say(plan.batch, self._batch, chunk=50),
                self._say(plan.ivr, self._ivr),
                self._say(plan.bank, self._bank_file, chunk=len(plan.bank)),
                self._changes(),
                self._say(plan.rtdr, self._rtdr),
                self._say(plan.refusals, self._refusals),
            ):
                group.create_task(part)
        await self._say(self._repeats_to_come(), self._form)
        self.screen.note("IC's customers have paid, changed their settings and asked for balances.")
        if not await self._until(
            KNOWN_LIMIT_S, lambda: not missing_outcomes(self._invoices.said, self.witness.settled)
        ):
            why = await explain(self.partners, self.witness)
            self.screen.note(f"[red]Some invoices had no outcome after {KNOWN_LIMIT_S} s; {why}")
        await self._say(plan.links, self._links)
        self.screen.note("Customers have opened their bills.")

    def _repeats_to_come(self) -> list[Said]:
        """Thirty drawn from the forms, and those whose repeat at the same moment was not accepted."""
        told = [each for each in [*self.plan.forms, *self.plan.ivr] if each.answer == "accepted"]
        again = Random(self.seed).sample(told, REPEATS_LATER)  # noqa: S311 - plays IC
        known = {each.id for each in self._repeats}
        again += [each for each in self.plan.at_once if each.id not in known]
        repeats = [repeat(each) for each in again]
        self._repeats += repeats
        return repeats

    async def _changes(self) -> None:
        await self._say(self.plan.changes, self._change, chunk=50)
        await self._say(self.plan.late_changes, self._change)

    async def _evening(self) -> None:
        """The cut-off passes; what is paid after it belongs to the next day."""
        await asyncio.sleep(max(0.0, (self.day.cut_off - datetime.now(UTC)).total_seconds()))
        self.screen.note("The cut-off has passed; some customers pay after it.")
        await self._say(self.plan.late_forms, self._form)
        await self._say(self.plan.late_batch, self._batch)

    async def _crash(self) -> None:
        await self.crash.happen(self.partners.installation, self.crew)
        self.screen.note(
            f"[yellow]kill -9 of {', '.join(self.crash.services)} at {self.crash.after_s:.1f} s of the day;"
            f" it was back after {self.crash.back_after_s:.1f} s."
        )

    # -- how things are said ---------------------------------------------------------------------------

    async def _say(self, said: list[Said], send: Send, chunk: int = CHUNK) -> None:
        """Says them biller by biller, some at a time, each until it is accepted."""
        for biller in sorted({each.biller for each in said}):
            mine = [each for each in said if each.biller == biller]
            for start in range(0, len(mine), chunk):
                await self.partners.insist(mine[start : start + chunk], send)

    async def _form(self, said: list[Said]) -> list[Answer]:
        return await self._pay(said, concurrency=ALONGSIDE)

    async def _pay(self, said: list[Said], **how: object) -> list[Answer]:
        payments = [self._dated(each) for each in said]
        return await self.partners.play("pay", said[0].biller, payments=payments, **how)

    async def _twice(self, said: list[Said]) -> list[Answer]:
        """Each payment twice at the same moment: two answers, the second of which is its repeat's."""
        answers = await self._pay(said, repeat=2, at_once=True, auth="bearer")
        for each, second in zip(said, answers[1::2], strict=True):
            if 200 <= second["status"] < 300 and not any(r.id == each.id for r in self._repeats):
                self._repeats.append(repeat(each))
                self._repeats[-1].tries = 1
                self._repeats[-1].accept(second.get("body"), datetime.now(UTC))
        return answers[0::2]

    async def _batch(self, said: list[Said]) -> list[Answer]:
        (answer,) = await self._pay(said, **{"as": "batch"})
        return items(answer, len(said))

    async def _ivr(self, said: list[Said]) -> list[Answer]:
        """IC's IVR looks the account up first; who is not found is not charged."""
        account = self.partners.contract.payment["account_as_sent"]
        looked_up = await self.partners.play(
            "ivr", said[0].biller, typed=[each.wire[account] for each in said], concurrency=ALONGSIDE
        )
        paying = [each for each, found in zip(said, looked_up, strict=True) if found["status"] == 200]
        answers = (
            dict(zip([each.id for each in paying], await self._form(paying), strict=True)) if paying else {}
        )
        return [answers.get(each.id) or found for each, found in zip(said, looked_up, strict=True)]

    async def _bank_file(self, said: list[Said]) -> list[Answer]:
        """One file a bank and biller, as a whole each time."""
        (answer,) = await self.partners.play(
            "bank_file", said[0].biller, payments=[each.wire for each in said]
        )
        return items(answer, len(said))

    async def _change(self, said: list[Said]) -> list[Answer]:
        (answer,) = await self.partners.play("enrol", said[0].biller, changes=[each.wire for each in said])
        return items(answer, len(said))

    async def _rtdr(self, said: list[Said]) -> list[Answer]:
        names = {wire: ours for ours, wire in self.partners.contract.balance.items()}
        accounts = [each.wire["account"] for each in said]
        answers = await self.partners.play("rtdr", said[0].biller, accounts=accounts, concurrency=ALONGSIDE)
        for answer in answers:
            if answer["status"] == 200:
                answer["body"] = {names.get(name, name): value for name, value in answer["body"].items()}
        return answers

    async def _links(self, said: list[Said]) -> list[Answer]:
        """A customer opens the bill behind the link that IC got with the invoice; only a PDF will do."""
        links = await self.partners.bill_links(said[0].biller)
        known = [each for each in said if each.wire["invoice_number"] in links]
        opened = await self.partners.play(
            "open",
            said[0].biller,
            links=[links[each.wire["invoice_number"]] for each in known],
            concurrency=ALONGSIDE,
        )
        answers = dict(zip([each.id for each in known], opened, strict=True))
        return [pdf_only(answers.get(each.id)) for each in said]

    async def _refusals(self, said: list[Said]) -> list[Answer]:
        return [await self._ask_in_vain(each) for each in said]

    async def _ask_in_vain(self, said: Said) -> Answer:
        biller, what = said.biller, said.wire["what"]
        names = self.partners.contract.change
        if what == "change":
            change = {names["id"]: f"X-{said.id}", names["type"]: said.wire["type"]}
            change[names["account"]] = said.wire["account"]
            return await self.partners.ask("settings", "POST", f"/ic/{biller}/changes", biller, body=change)
        guid = self.plan.forms[0].id
        path = {"ach_rejects": "ach-rejects", "void": "voids", "void_by_guid": f"payments/{guid}/void"}[what]
        return await self.partners.ask(
            "payments", "POST", f"/ic/{biller}/{path}", biller, body={"PaymentGUID": guid}
        )

    def _dated(self, said: Said) -> dict[str, object]:
        """A payment is dated when it is first told; every repeat says the same."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        said.wire.setdefault(self.partners.contract.payment["paid_at"], now)
        return said.wire

    # -- waiting ---------------------------------------------------------------------------------------

    async def _until(self, limit_s: float, holds: Callable[[], bool]) -> bool:
        """Whether it came to hold within so many seconds."""
        until = time.monotonic() + limit_s
        while not holds():
            self.witness.check()
            if time.monotonic() > until:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _accounts_known(self) -> None:
        """IC's customers begin once every service that looks up accounts has read all of them."""
        wanted = {(bill.biller, bill.account) for file in self.files for bill in file.good}
        if not await self._until(KNOWN_LIMIT_S, lambda: wanted <= self.witness.accounts):
            missing = len(wanted - self.witness.accounts)
            raise await self._broke_off(f"{missing} accounts of the BIF files were not known")
        until = time.monotonic() + KNOWN_LIMIT_S
        for service in VIEWERS:
            while await self._accounts_read(service) < self.witness.account_records:
                if time.monotonic() > until:
                    raise await self._broke_off(f"{service} had not read all accounts")
                await asyncio.sleep(POLL_S)
        self.screen.note(f"{len(wanted):,} accounts are known everywhere.")

    async def _broke_off(self, what: str) -> BrokeOff:
        return BrokeOff(f"{what} after {KNOWN_LIMIT_S} s; {await explain(self.partners, self.witness)}")

    async def _watch_services(self) -> None:
        """Raises BrokeOff when a service has ended that nobody killed."""
        while True:
            for service in SERVICES:
                down = self.crash.down
                alive = await asyncio.to_thread(self.partners.installation.alive, service)
                if not alive and service not in (down, self.crash.down):
                    said = await asyncio.to_thread(last_line, self.partners, service)
                    raise BrokeOff(f"{service} has ended by itself, and said last: {said}")
            await asyncio.sleep(ALIVE_EVERY_S)

    async def _accounts_read(self, service: str) -> float:
        return await self.partners.metric(service, "billbus_view_records_total", view=ACCOUNT_CURRENT)

    async def _settled(self) -> None:
        """Everything accepted has come to an end, every day is closed, every link is checked."""
        if not await self._until(SETTLE_LIMIT_S, lambda: not any(count for _, count in self._open_ends())):
            left = [f"{what} {count}" for what, count in self._open_ends() if count]
            why = await explain(self.partners, self.witness)
            self.screen.note(f"[red]Not settled after {SETTLE_LIMIT_S} s: {', '.join(left)}; {why}")
            return
        self.screen.note("Everything is settled.")

    def _open_ends(self) -> Iterator[tuple[str, int]]:
        """What is still under way, by name."""
        yield "outcomes", missing_outcomes(self.said, self.witness.settled)
        closed = {(batch.biller, batch.day) for batch in self.witness.batches}
        yield "batches", len(self.day.days.items() - closed)
        accepted = {(s.biller, s.id) for s in self._invoices.said if s.answer == "accepted"}
        yield "bill links", len(accepted - self.witness.live)

    async def _show_progress(self) -> None:
        while True:
            said = self.said
            for name, flows in (
                ("BIF rows", ("invoices",)),
                ("payments", ("payments", "unsupported", "repeats")),
                ("changes of settings", ("settings",)),
                ("balance enquiries", ("rtdr",)),
                ("bill links opened", ("links",)),
                ("refused by name", ("refusals",)),
            ):
                mine = [each for each in said if each.flow in flows]
                self.screen.bar(name, sum(bool(each.answer) for each in mine), len(mine))
            ends = dict(self._open_ends())
            due = sum(each.flow in ("invoices", "payments", "unsupported", "settings") for each in said)
            self.screen.bar("settled at the partners", len(self.witness.outcomes), due)
            self.screen.bar("batches closed", len(self.day.days) - ends["batches"], len(self.day.days))
            await asyncio.sleep(4 * POLL_S)

    async def _facts(self) -> Facts:
        return Facts(
            said=self.said,
            rows=await self.partners.ledger(),
            outcomes=self.witness.outcomes,
            batches=self.witness.batches,
            owed=self._invoices.owed,
            days=self.day.days,
            live=self.witness.live,
            stale_allowed=self.day.stale_allowed,
        )


def pdf_only(answer: Answer | None) -> Answer:
    """What a customer makes of it: a page that says sorry is no bill, and neither is a link that IC lacks."""
    if answer is None:
        return {"status": 404, "body": {"title": "IC has no link to this bill"}}
    if answer["status"] == 200 and not answer.get("is_pdf"):
        return {"status": 422, "body": {"title": "what was opened is no PDF"}}
    return answer
