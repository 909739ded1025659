"""Bill links: the same every time, nobody else's, and dead when they should be."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bus.links import BadLink, Claims, mint, read
from services.bus.settings import ConfigurationError
from tests.unit.parts import NOON, FakeSecrets, a_biller

UNTIL = NOON + timedelta(days=400)
SECRETS = FakeSecrets()


def token(invoice: str = "INV-1", bill: str = "B/1", slug: str = "acme") -> str:
    return mint(a_biller(slug), SECRETS, "https://bills.example/", invoice, bill, UNTIL).rsplit("/", 1)[1]


def test_a_link_says_what_was_signed() -> None:
    assert read(a_biller(), SECRETS, token(), NOON) == Claims("acme", "INV-1", "B/1", UNTIL)


def test_the_address_is_the_same_every_time() -> None:
    first = mint(a_biller(), SECRETS, "https://bills.example/", "INV-1", "B/1", UNTIL)
    assert first == mint(a_biller(), SECRETS, "https://bills.example", "INV-1", "B/1", UNTIL)
    assert first.startswith("https://bills.example/bills/acme/")


def test_a_link_dies_at_its_instant() -> None:
    assert isinstance(read(a_biller(), SECRETS, token(), UNTIL - timedelta(seconds=1)), Claims)
    assert read(a_biller(), SECRETS, token(), UNTIL) == BadLink("expired")


def test_a_link_of_another_biller_is_forged() -> None:
    assert read(a_biller("birch"), SECRETS, token(), NOON) == BadLink("forged")


def test_an_equal_key_makes_no_equal_links() -> None:
    birch = a_biller("birch", links={"key": "acme-key"})
    assert read(birch, SECRETS, token(), NOON) == BadLink("forged")


def test_every_changed_sign_is_seen() -> None:
    good = token()
    for place, sign in enumerate(good[:-1]):  # the last one carries bits that base64 leaves out
        other = "A" if sign != "A" else "B"
        assert read(a_biller(), SECRETS, good[:place] + other + good[place + 1 :], NOON) == BadLink("forged")


@given(st.text(max_size=300))
def test_anything_else_is_forged(text: str) -> None:
    assert read(a_biller(), SECRETS, text, NOON) == BadLink("forged")


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=60))
def test_any_numbers_survive_in_an_address_of_plain_signs(invoice: str, bill: str) -> None:
    address = mint(a_biller(), SECRETS, "https://bills.example", invoice, bill, UNTIL)
    assert address.isascii()
    assert not set(address) & set(' "<>#?&')
    claims = read(a_biller(), SECRETS, address.rsplit("/", 1)[1], NOON)
    assert claims == Claims("acme", invoice, bill, UNTIL)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigurationError, match="cedar-key"):
        mint(a_biller("cedar"), SECRETS, "https://bills.example", "I", "B", UNTIL)
