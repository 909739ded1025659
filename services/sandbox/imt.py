"""IMT's four web services, as schemas/partners/imt.yaml has them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse, Response

from services.sandbox.accounts import Account, Accounts
from services.sandbox.amounts import Malformed, cents, instant, money, read_day, read_instant
from services.sandbox.environment import Contracts
from services.sandbox.insurers import Insurers
from services.sandbox.ledger import Filter, Ledger, Row
from services.sandbox.pdf import bill_pdf
from services.sandbox.wire import Asked

_MOST_TEXT = 200


class Refused(Exception):
    """IMT says no before anything could happen."""

    def __init__(self, error: str, code: str, message: str) -> None:
        super().__init__(message)
        self.error, self.code = error, code


@dataclass(frozen=True, slots=True)
class Call:
    """One request to IMT."""

    method: str
    insurer: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    authorization: str
    body: bytes


class Imt:
    """Understands a call and says what answering it would do; the names on the wire are the contract's."""

    def __init__(self, contracts: Contracts, insurers: Insurers, ledger: Ledger, accounts: Accounts) -> None:
        self._imt = contracts.imt
        self._services: dict[str, Any] = contracts.imt["services"]
        self._insurers = insurers
        self._ledger = ledger
        self._accounts = accounts
        self.operations: dict[str, Callable[[Call], Asked]] = {
            "read_account": self.read_account,
            "list_changes": self.list_changes,
            "post_payment": self.post_payment,
            "read_payment": self.read_payment,
            "list_payments": self.list_payments,
            "post_setting": self.post_setting,
            "read_settings": self.read_settings,
            "check_bill": self.read_bill,
            "read_bill": self.read_bill,
        }

    def understand(self, operation: str, call: Call) -> Asked | Response:
        """What is asked, or IMT's own no to somebody or something it does not understand."""
        insurer = self._insurers.by_slug(call.insurer)
        scheme, _, given = call.authorization.partition(" ")
        same_scheme = scheme.lower() == str(self._imt["auth"]["scheme"]).lower()
        if insurer is None or not same_scheme or not self._insurers.knows(insurer.imt_token, given.strip()):
            return self._no("unauthorized", "unauthorized", "Wrong or missing token")
        try:
            return self.operations[operation](call)
        except Malformed as fault:
            return self._no("malformed", "malformed", str(fault))
        except Refused as refused:
            return self._no(refused.error, refused.code, str(refused))

    # payments-due

    def read_account(self, call: Call) -> Asked:
        number = call.path["account"]

        def answer() -> Response:
            state = self._accounts.read(call.insurer, number)
            if state is None:
                return self._no("not_found", "unknown_account", "No such account")
            return JSONResponse(self._state(state))

        return self._asked(call, answer, number)

    def list_changes(self, call: Call) -> Asked:
        service = self._services["payments_due"]
        names = service["operations"]["list_changes"]["query"]
        since = call.query.get(names["since"])
        since_ms = read_instant(since, names["since"]) if since else 0
        after, limit = self._page(service, names, call.query)

        def answer() -> Response:
            found = self._accounts.changes(call.insurer, since_ms, after, limit + 1)
            page = found[:limit]
            causes = service["causes"]
            items = [self._state(one.state) | {service["fields"]["cause"]: causes[one.cause]} for one in page]
            return JSONResponse(
                self._paged(service, items, page[-1].cursor if page else after, len(found) > limit)
            )

        return self._asked(call, answer)

    def _state(self, state: Account) -> dict[str, Any]:
        shown = {
            "account": state.account,
            "balance_due": money(state.balance_due),
            "minimum_due": money(state.balance_due),
            "past_due": money(state.past_due),
            "current_charges": money(state.current),
            "credit": money(state.credit),
            "as_of": instant(state.as_of),
        }
        names = self._services["payments_due"]["fields"]
        return {names[name]: value for name, value in shown.items()}

    # DataPump Payments

    def post_payment(self, call: Call) -> Asked:
        service = self._services["datapump"]
        names, reply = service["fields"], service["reply"]
        sent = self._body(call, service)
        amount = cents(sent[names["amount"]], names["amount"])
        read_instant(sent[names["paid_at"]], names["paid_at"])
        read_day(sent[names["batch_date"]], names["batch_date"])
        guid, account = str(sent[names["payment_guid"]]), str(sent[names["account"]])

        def answer() -> Response:
            state = self._accounts.read(call.insurer, account)
            if state is None:
                return self._no("rejected", "unknown_account", "No such account")
            if state.closed or amount <= 0:
                return self._no(
                    "rejected", "rejected", "Account closed" if state.closed else "Not above zero"
                )
            with self._ledger.effect():
                at = self._ledger.tick()
                seq = self._ledger.add(
                    "payments",
                    biller=call.insurer,
                    natural_id=guid,
                    account=account,
                    fields=sent,
                    at=at,
                    amount=amount,
                )
                self._accounts.write(call.insurer, state.paid(amount, at), "payment", seq)
            return JSONResponse(
                {
                    names["payment_guid"]: guid,
                    reply["reference"]: _reference("P", seq),
                    reply["posted_at"]: instant(at),
                },
                201,
            )

        return self._asked(call, answer, guid, account)

    def read_payment(self, call: Call) -> Asked:
        guid = call.path["guid"]

        def answer() -> Response:
            row, count = self._ledger.first("payments", call.insurer, guid)
            if row is None:
                return self._no("not_found", "not_found", "No such payment")
            return JSONResponse(self._posted(row) | {self._services["datapump"]["reply"]["count"]: count})

        return self._asked(call, answer, guid)

    def list_payments(self, call: Call) -> Asked:
        service = self._services["datapump"]
        names = service["operations"]["list_payments"]["query"]
        day = read_day(call.query.get(names["batch_date"]), names["batch_date"])
        after, limit = self._page(service, names, call.query)
        batch = Filter(
            call.insurer, after=after, limit=limit + 1, field=(service["fields"]["batch_date"], day)
        )

        def answer() -> Response:
            found = self._ledger.rows("payments", batch)
            page = found[:limit]
            totals = self._ledger.totals("payments", batch)
            body = self._paged(
                service,
                [self._posted(row) for row in page],
                page[-1].seq if page else after,
                len(found) > limit,
            )
            envelope = service["envelope"]
            return JSONResponse(
                body | {envelope["count"]: totals["count"], envelope["total"]: totals["total"]}
            )

        return self._asked(call, answer, day)

    def _posted(self, row: Row) -> dict[str, Any]:
        reply = self._services["datapump"]["reply"]
        return row.fields | {
            self._services["datapump"]["fields"]["amount"]: money(row.amount or 0),
            reply["reference"]: _reference("P", row.seq),
            reply["posted_at"]: instant(row.at),
        }

    # Settings

    def post_setting(self, call: Call) -> Asked:
        service = self._services["settings"]
        names, reply, number = service["fields"], service["reply"], call.path["number"]
        sent = self._body(call, service)
        indicator, value = str(sent[names["indicator"]]), str(sent[names["value"]])
        if indicator not in service["indicators"].values():
            raise Malformed(f"{names['indicator']} is not one of {', '.join(service['indicators'].values())}")
        if value not in self._imt["words"].values():
            raise Malformed(f"{names['value']} is neither {' nor '.join(self._imt['words'].values())}")
        change_id = str(sent.get(names["change_id"]) or "")
        if sent.get(names["changed_at"]) is not None:
            read_instant(sent[names["changed_at"]], names["changed_at"])

        def answer() -> Response:
            if not self._accounts.number_known(call.insurer, number):
                return self._no("rejected", "unknown_number", "No such account or policy")
            with self._ledger.effect():
                at = self._ledger.tick()
                seq = self._ledger.add(
                    "settings",
                    biller=call.insurer,
                    natural_id=change_id or f"{number}/{indicator}",
                    account=number,
                    fields=sent | {names["number"]: number},
                    at=at,
                )
            done = {reply["reference"]: _reference("S", seq), reply["applied_at"]: instant(at)}
            return JSONResponse(sent | {names["number"]: number} | done)

        return self._asked(call, answer, number, change_id)

    def read_settings(self, call: Call) -> Asked:
        service = self._services["settings"]
        names, reply, number = service["fields"], service["reply"], call.path["number"]

        def answer() -> Response:
            if not self._accounts.number_known(call.insurer, number):
                return self._no("not_found", "unknown_number", "No such account or policy")
            applied = self._ledger.rows("settings", Filter(call.insurer, account=number, limit=1_000_000))
            newest = {row.fields[names["indicator"]]: row for row in applied}
            items = [
                row.fields
                | {reply["reference"]: _reference("S", row.seq), reply["applied_at"]: instant(row.at)}
                for _, row in sorted(newest.items())
            ]
            return JSONResponse({names["number"]: number, service["envelope"]["items"]: items})

        return self._asked(call, answer, number)

    # Bills

    def read_bill(self, call: Call) -> Asked:
        bill_id = call.path["bill_id"]

        def answer() -> Response:
            bill = self._accounts.bill(call.insurer, bill_id)
            if bill is None:
                return self._no("not_found", "not_found", "No such bill")
            account, size = bill
            self._ledger.add(
                "bills",
                biller=call.insurer,
                natural_id=bill_id,
                account=account,
                fields={"Method": call.method},
                at=self._ledger.tick(),
            )
            shown = bill_pdf([f"Bill {bill_id}", f"Account {account}", call.insurer], size)
            return Response(shown, media_type=self._services["bills"]["content_type"])

        return self._asked(call, answer, bill_id)

    # what they share

    def _asked(self, call: Call, answer: Callable[[], Response], *subjects: str) -> Asked:
        return Asked(
            call.insurer, subjects, answer, lambda: self._no("rejected", "rejected", "Refused, as told")
        )

    def _no(self, error: str, code: str, message: str) -> Response:
        errors = self._imt["errors"]
        body = {errors["fields"]["code"]: errors["codes"][code], errors["fields"]["message"]: message}
        return JSONResponse(body, errors["statuses"][error])

    def _body(self, call: Call, service: Mapping[str, Any]) -> dict[str, Any]:
        """The fields sent, the required ones all there, each text of bounded length."""
        try:
            sent = json.loads(call.body)
        except (ValueError, RecursionError):
            raise Malformed("the body is not JSON") from None
        if not isinstance(sent, dict):
            raise Malformed("the body is not an object")
        most = service.get("limits", {}).get("text", _MOST_TEXT)
        for name, value in sent.items():
            if isinstance(value, dict | list) or (isinstance(value, str) and len(value) > most):
                raise Malformed(f"{name[:most]} is not a text of at most {most} characters")
        for name in (service["fields"][ours] for ours in service["required"]):
            if sent.get(name) in (None, ""):
                raise Malformed(f"{name} is missing")
        return sent

    def _page(
        self, service: Mapping[str, Any], names: Mapping[str, str], query: Mapping[str, str]
    ) -> tuple[int, int]:
        after = query.get(names["after"]) or "0"
        limit = query.get(names["limit"]) or str(service["limits"]["default_page"])
        if not (after.isascii() and after.isdigit() and len(after) <= 18):
            raise Malformed(f"{names['after']} is not the Next of a page")
        if not (limit.isascii() and limit.isdigit()) or not 1 <= int(limit) <= service["limits"]["page"]:
            raise Malformed(f"{names['limit']} is not between 1 and {service['limits']['page']}")
        return int(after), int(limit)

    def _paged(
        self, service: Mapping[str, Any], items: list[dict[str, Any]], after: int, more: bool
    ) -> dict[str, Any]:
        envelope = service["envelope"]
        return {envelope["items"]: items, envelope["next"]: str(after), envelope["more"]: more}


def _reference(letter: str, seq: int) -> str:
    return f"{letter}{seq:08d}"
