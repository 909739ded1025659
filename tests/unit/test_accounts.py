"""Which account is meant by what was typed, and when nobody can say."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bus.accounts import AccountsView, Ambiguous, Match, NoMatch, normalise
from services.bus.biller import AccountNumbers
from services.events import AccountCurrent
from tests.unit.parts import a_biller

NUMERIC = AccountNumbers(alphanumeric=False)
LETTERS = AccountNumbers(alphanumeric=True, strip_leading_zeros=False)


def known(
    account: str, *, biller: str = "acme", invoices: tuple[str, ...] = ("I1",), **more: object
) -> AccountCurrent:
    return AccountCurrent(
        biller=biller,
        account=account,
        normalised=account,
        invoice_number=invoices[0],
        invoice_date=date(2026, 11, 1),
        invoices=invoices,
        updated_at=datetime(2026, 11, 1, tzinfo=UTC),
        policies=more.get("policies", ()),  # type: ignore[arg-type]  # given by name in each test
    )


def view(*events: AccountCurrent) -> AccountsView:
    accounts = AccountsView()
    for event in events:
        accounts.apply(event)
    return accounts


@pytest.mark.parametrize(
    "typed", ["0012345", "12345", " 12-345 ", "12 345", "00000 123-45", "12–345", "１２３４５"]
)
def test_spaces_dashes_zeros_and_wide_digits_do_not_matter(typed: str) -> None:
    assert view(known("0012345")).find_typed(a_biller(), typed) == Match("0012345")


@pytest.mark.parametrize("typed", ["", " ", "-", "12345A", "12/345", "12345\x00", "1" * 65, "٣٤٥", "12.345"])
def test_what_is_no_number_matches_nothing(typed: str) -> None:
    assert view(known("0012345")).find_typed(a_biller(), typed) == NoMatch()


def test_letters_count_for_the_ivr_only_where_they_are_switched_on() -> None:
    accounts = view(known("CM-10A22"), known("777"))
    assert accounts.find_spoken(a_biller(), "cm 10a22") == NoMatch()
    assert accounts.find_spoken(a_biller(accounts=LETTERS), "cm 10a22") == Match("CM-10A22")
    assert accounts.find_spoken(a_biller(), "7-77") == Match("777")


@pytest.mark.parametrize("sent", ["HO-123", "ho 123"])
def test_the_ivrs_switch_hides_no_account_from_payments_and_settings(sent: str) -> None:
    assert view(known("HO-123")).find_typed(a_biller(), sent) == Match("HO-123")


def test_a_canonical_number_of_other_signs_is_found_verbatim() -> None:
    accounts = view(known("HO/123.4"))
    assert accounts.find_typed(a_biller(), "HO/123.4") == Match("HO/123.4")
    assert accounts.find_typed(a_biller(), "HO/1234") == NoMatch()


def test_two_matches_are_ambiguous_even_when_one_is_verbatim() -> None:
    accounts = view(known("00123"), known("123"))
    assert accounts.find_typed(a_biller(), "123") == Ambiguous(("00123", "123"))


def test_zeros_tell_accounts_apart_where_the_rule_says_so() -> None:
    accounts = view(known("00123"), known("123"))
    biller = a_biller(accounts=AccountNumbers(alphanumeric=False, strip_leading_zeros=False))
    assert accounts.find_typed(biller, "00123") == Match("00123")
    assert accounts.find_typed(biller, "0123") == NoMatch()


def test_an_account_of_zeros_keeps_one() -> None:
    assert normalise("000", NUMERIC) == "0"
    assert view(known("000")).find_typed(a_biller(), "0") == Match("000")


def test_one_biller_never_finds_anothers_account() -> None:
    accounts = view(known("123", biller="birch"))
    assert accounts.find_typed(a_biller(), "123") == NoMatch()
    assert accounts.by_invoice("acme", "I1") == NoMatch()
    assert accounts.by_account("acme", "123") is None


def test_invoices_and_policies_follow_the_account() -> None:
    accounts = view(known("1", invoices=("I1",), policies=("P-07",)))
    accounts.apply(known("1", invoices=("I3", "I2"), policies=("P-08",)))
    assert accounts.by_invoice("acme", "I2") == Match("1")
    assert accounts.by_invoice("acme", "I1") == NoMatch()
    assert accounts.by_policy("acme", "p08") == Match("1")
    assert accounts.by_policy("acme", "P-07") == NoMatch()


def test_a_policy_or_an_invoice_on_two_accounts_is_ambiguous() -> None:
    accounts = view(known("1", policies=("P1",)), known("2", policies=("P1",)))
    assert accounts.by_policy("acme", "P1") == Ambiguous(("1", "2"))
    assert accounts.by_invoice("acme", "I1") == Ambiguous(("1", "2"))


def test_candidates_are_bounded() -> None:
    accounts = view(*(known("0" * n + "7") for n in range(30)))
    found = accounts.find_typed(a_biller(), "7")
    assert isinstance(found, Ambiguous)
    assert len(found.candidates) == 10


@given(st.text(max_size=80))
def test_normalising_twice_is_normalising_once(typed: str) -> None:
    for rule in (NUMERIC, LETTERS, AccountNumbers(alphanumeric=True)):
        once = normalise(typed, rule)
        assert normalise(once, rule) == once
        assert once == "" or once.isalnum()


@given(
    st.from_regex(r"[0-9]{1,20}", fullmatch=True),
    st.lists(st.sampled_from(" -"), max_size=8),
    st.integers(0, 9),
)
def test_however_it_is_typed_the_account_is_found(number: str, signs: list[str], zeros: int) -> None:
    typed = "0" * zeros + number
    for place, sign in enumerate(signs):
        typed = typed[: place * 2] + sign + typed[place * 2 :]
    assert view(known(number)).find_typed(a_biller(), typed) == Match(number)


@given(
    st.lists(
        st.tuples(st.sampled_from("123"), st.lists(st.sampled_from("ABCDE"), unique=True, min_size=1)),
        max_size=30,
    )
)
def test_the_indexes_say_what_the_newest_states_say(states: list[tuple[str, list[str]]]) -> None:
    accounts, newest = AccountsView(), {}
    for account, invoices in states:
        accounts.apply(known(account, invoices=tuple(invoices)))
        newest[account] = invoices
    for invoice in "ABCDE":
        owners = {account for account, invoices in newest.items() if invoice in invoices}
        found = accounts.by_invoice("acme", invoice)
        told = {found.account} if isinstance(found, Match) else set(getattr(found, "candidates", ()))
        assert told == owners
