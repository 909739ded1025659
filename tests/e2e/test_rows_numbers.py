"""The rows about numbers as people and banks have them: IVR and Online Bank Direct."""

from __future__ import annotations

import time
from decimal import Decimal
from statistics import median

import httpx
import pytest

from tests.e2e.both_sides import BothSides, Customer


def with_twin(sides: BothSides) -> tuple[Customer, Customer]:
    """Two customers whose numbers differ by a leading zero."""
    first = sides.customer("birch")
    bare = first.account.lstrip("0")
    return first, sides.customer("birch", AccountNumber=f"0{bare}" if first.account == bare else bare)


def send(sides: BothSides, bank_file: str) -> httpx.Response:
    """A bank's file, as IC hands it on."""
    headers = {"Content-Type": "text/csv"}
    path = "/ic/birch/bank-files"
    return sides.ask("payments", "POST", path, "birch", content=bank_file, headers=headers)


def test_ivr(sides: BothSides) -> None:
    customer = sides.customer()
    bare = customer.account.lstrip("0")
    typed = f" {bare[:3]}-{bare[3:5]} {bare[5:]} "
    asked = sides.control("POST", "/play/ivr", json={"biller": "acme", "typed": [typed]})
    answer = asked["answers"][0]
    told = sides.payment(AccountNumber=typed.strip(), Product="IVR", PaymentAmount="12.00")

    assert answer["status"] == 200
    assert answer["body"]["AccountNumber"] == customer.account
    assert answer["body"]["InvoiceNumber"] == customer.invoice
    assert sides.pay(told).status_code == 200
    assert sides.settled(told)["state"] == "posted"
    (row,) = sides.paid(told)
    assert (row["AccountNumber"], row["Product"], row["PaymentAmount"]) == (customer.account, "ivr", "12.00")
    (event,) = sides.events("payment.received", payment_guid=told["PaymentGUID"])
    assert (event["account_as_sent"], event["account"]) == (typed.strip(), customer.account)


def test_ivr_letters_count_only_where_the_biller_switched_them_on(sides: BothSides) -> None:
    numeric, lettered = sides.customer(), sides.customer("cedar")
    as_typed = lettered.account.lower().replace("-", " ")

    answer = sides.ask("balances", "GET", f"/ic/cedar/ivr/{as_typed}", "cedar")
    assert (answer.status_code, answer.json()["AccountNumber"]) == (200, lettered.account)
    assert sides.ask("balances", "GET", f"/ic/acme/ivr/A{numeric.account}").status_code == 404
    told = sides.payment("cedar", AccountNumber=as_typed, Product="IVR")
    assert sides.pay(told, "cedar").status_code == 200
    assert sides.settled(told, "cedar")["state"] == "posted"
    assert [row["AccountNumber"] for row in sides.paid(told, "cedar")] == [lettered.account]


def test_ivr_two_matches_are_refused_as_ambiguous(sides: BothSides) -> None:
    first, second = with_twin(sides)
    bare = first.account.lstrip("0")
    answer = sides.ask("balances", "GET", f"/ic/birch/ivr/{bare}", "birch")

    assert (answer.status_code, answer.json()["title"]) == (409, "Ambiguous account")
    assert bare not in answer.text
    told = sides.payment("birch", AccountNumber=bare, Product="IVR")
    assert sides.pay(told, "birch").status_code == 200
    outcome = sides.settled(told, "birch")
    assert (outcome["state"], outcome["reason"]) == ("parked", "account_ambiguous")
    assert sides.paid(told, "birch") == []
    assert first.account != second.account


def test_ivr_is_answered_from_the_local_view_in_under_50_ms(sides: BothSides) -> None:
    customer = sides.customer()
    sides.fault("imt", "maintenance")  # nobody asks IMT
    took = []
    for _ in range(60):
        began = time.perf_counter()
        answer = sides.ask("balances", "GET", f"/ic/acme/ivr/{customer.account}")
        took.append(time.perf_counter() - began)
        assert answer.json()["AccountNumber"] == customer.account
    assert median(took) < 0.05


def test_online_bank_direct(sides: BothSides) -> None:
    customer = sides.customer("birch")
    first, second = with_twin(sides)
    bare = first.account.lstrip("0")
    payments = [
        {
            "AccountNumber": customer.account.lstrip("0"),
            "PaymentAmount": "15.00",
            "BankName": "First Invented Bank",
        },
        {"AccountNumber": bare, "PaymentAmount": "16.00"},
        {"AccountNumber": "999999999999", "PaymentAmount": "17.00"},
    ]
    played = sides.control("POST", "/play/bank_file", json={"biller": "birch", "payments": payments})
    assert played["statuses"] == {"200": 1}, played
    results = played["answers"][0]["body"]["results"]
    matched, several, nobody = ({"PaymentGUID": each["PaymentGUID"]} for each in results)

    assert sides.settled(matched, "birch")["state"] == "posted"
    (row,) = sides.paid(matched, "birch")
    assert (row["AccountNumber"], row["PaymentAmount"]) == (customer.account, "15.00")
    assert (row["Product"], row["Tender"]) == ("online_bank_direct", "eft")
    (event,) = sides.events("payment.received", payment_guid=several["PaymentGUID"])
    assert (event["account_as_sent"], event["resolution"]) == (bare, "ambiguous")
    assert set(event["candidates"]) == {first.account, second.account}
    parked = ((several, "account_ambiguous", "16.00"), (nobody, "account_unknown", "17.00"))
    for told, reason, amount in parked:
        outcome = sides.settled(told, "birch")
        assert (outcome["state"], outcome["reason"]) == ("parked", reason)
        assert outcome["amount"] == Decimal(amount)
        assert sides.paid(told, "birch") == []


def test_online_bank_direct_the_same_file_again_does_nothing_twice(sides: BothSides) -> None:
    customer = sides.customer("birch")
    told = sides.payment("birch")
    head = "PaymentGUID,AccountNumber,PaymentAmount,PaymentDate,BankName,TraceNumber"
    line = f"{told['PaymentGUID']},{customer.account},25.00,{told['PaymentDate']},First Invented Bank,T-1"
    body = f"{head}\n{line}\nTRAILER,1,25.00\n"
    for _ in range(2):
        answer = send(sides, body)
        assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    behind = sides.payment("birch", AccountNumber=customer.account)
    sides.pay(behind, "birch")
    sides.settled(behind, "birch")

    assert len(sides.paid(told, "birch")) == 1


@pytest.mark.parametrize("trailer", ["TRAILER,2,25.00", "TRAILER,1,26.00", ""])
def test_online_bank_direct_a_file_that_is_not_whole_is_refused_whole(sides: BothSides, trailer: str) -> None:
    customer = sides.customer("birch")
    told = sides.payment("birch")
    head = "PaymentGUID,AccountNumber,PaymentAmount,PaymentDate,BankName,TraceNumber"
    line = f"{told['PaymentGUID']},{customer.account},25.00,{told['PaymentDate']},,"
    body = "\n".join([head, line, trailer])
    answer = send(sides, body)

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert sides.events("payment.received", payment_guid=told["PaymentGUID"]) == []
