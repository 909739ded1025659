"""How IC's changes are read: names, words, polarity, and what is refused by name."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.bus.settings import ConfigurationError
from services.bus.support import Unsupported
from services.bus.wire import Malformed
from services.settings.change import Change, load_contract
from tests.unit.settings_sample import acme, reader

BILLER = acme()
AUTOPAY = {
    "ChangeID": "c-1",
    "ChangedAt": "2026-11-20T12:00:00Z",
    "Type": "AutoPay",
    "AccountNumber": "12345",
}


def read(**fields: Any) -> list[Change]:
    told = {name: value for name, value in (AUTOPAY | fields).items() if value is not None}
    return reader().read(told, BILLER.invoice_cloud.biller_guid, BILLER.timezone)


@pytest.mark.parametrize(("word", "value"), [("True", True), ("False", False), (True, True), ("f", False)])
def test_autopay_is_read_as_it_stands(word: object, value: bool) -> None:
    (change,) = read(AutoPay=word)

    assert (change.indicator, change.value) == ("autopay", value)
    assert (change.change_id, change.number, change.number_kind) == ("c-1", "12345", "account")
    assert change.changed_at == datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("paper_invoices", "paperless"), [("True", False), ("False", True), (True, False), (False, True)]
)
def test_paper_invoices_is_the_inverse_of_paperless(paper_invoices: object, paperless: bool) -> None:
    (change,) = read(Type="PaperInvoices", PaperInvoices=paper_invoices)

    assert (change.indicator, change.value) == ("paperless", paperless)


def test_linking_sets_the_link_alone() -> None:
    assert [(c.change_id, c.indicator, c.value, c.cause) for c in read(Type="AccountLink")] == [
        ("c-1", "account_link", True, None)
    ]


def test_unlinking_ends_autopay_under_an_id_of_its_own() -> None:
    assert [(c.change_id, c.indicator, c.value, c.cause) for c in read(Type="AccountUnlink")] == [
        ("c-1", "account_link", False, None),
        ("c-1.autopay", "autopay", False, "unlink"),
    ]


def test_a_policy_number_says_that_it_is_one() -> None:
    (change,) = read(AutoPay="True", AccountNumber=None, PolicyNumber="HO-0077")

    assert (change.number, change.number_kind) == ("HO-0077", "policy")


def test_an_instant_without_an_offset_is_the_billers_own_time() -> None:
    (change,) = read(AutoPay="True", ChangedAt="2026-11-20T06:00:00.123456")

    assert change.changed_at == datetime(2026, 11, 20, 12, 0, 0, 123000, tzinfo=UTC)


def test_without_an_instant_a_change_has_none() -> None:
    (change,) = read(AutoPay="True", ChangedAt=None)

    assert change.changed_at is None


def test_an_instant_can_be_required_by_the_contract() -> None:
    told = AUTOPAY | {"AutoPay": "True"}
    del told["ChangedAt"]

    with pytest.raises(Malformed, match="ChangedAt"):
        reader(changed_at_required=True).read(told, BILLER.invoice_cloud.biller_guid, BILLER.timezone)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"AutoPay": "maybe"}, "AutoPay"),
        ({"AutoPay": None}, "AutoPay"),
        ({"AutoPay": 1}, "AutoPay"),
        ({"Type": "PaperInvoices"}, "PaperInvoices"),
        ({"Type": "Frobnicate"}, "Type"),
        ({"Type": None}, "Type"),
        ({"Type": ["AutoPay"]}, "Type"),
        ({"ChangeID": None}, "ChangeID"),
        ({"ChangeID": " "}, "ChangeID"),
        ({"ChangeID": 7}, "ChangeID"),
        ({"ChangeID": "x" * 81}, "ChangeID"),
        ({"AutoPay": "True", "AccountNumber": None}, "AccountNumber"),
        ({"AutoPay": "True", "AccountNumber": "1" * 41}, "AccountNumber"),
        ({"AutoPay": "True", "AccountNumber": 12345}, "AccountNumber"),
        ({"AutoPay": "True", "ChangedAt": "yesterday"}, "ChangedAt"),
        ({"AutoPay": "True", "ChangedAt": 1700000000}, "ChangedAt"),
        ({"AutoPay": "True", "ChangedAt": "0001-01-01T00:00:00Z"}, "ChangedAt"),
        ({"AutoPay": "True", "BillerGUID": "another"}, "BillerGUID"),
    ],
)
def test_a_malformed_change_is_told_by_its_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(Malformed) as refused:
        read(**fields)
    assert refused.value.field == named
    assert "12345" not in str(refused.value)


def test_no_object_is_no_change() -> None:
    with pytest.raises(Malformed, match="an object"):
        reader().read(["AutoPay"], BILLER.invoice_cloud.biller_guid, BILLER.timezone)


def test_the_billers_own_guid_is_taken_in_any_case() -> None:
    (change,) = read(AutoPay="True", BillerGUID=BILLER.invoice_cloud.biller_guid.upper())

    assert change.value


@pytest.mark.parametrize(
    ("kind", "slug"),
    [
        ("MultiUserLogIn", "multi_user_log_in"),
        ("CoOwnerRegistration", "co_owner_registration"),
        ("SSO", "sso"),
    ],
)
def test_a_type_that_is_not_supported_is_refused_by_its_name(kind: str, slug: str) -> None:
    with pytest.raises(Unsupported) as refused:
        read(Type=kind)
    assert refused.value.row.slug == slug


def test_the_same_change_has_the_same_content_and_another_has_not() -> None:
    (first,), (again,), (other,) = read(AutoPay="True"), read(AutoPay=True), read(AutoPay="False")

    assert first.content == again.content
    assert first.content != other.content


def test_a_contract_that_sets_nothing_is_refused_by_name(tmp_path: Any) -> None:
    (tmp_path / "changes.yaml").write_text("title: x\nversion: 1\n")

    with pytest.raises(ConfigurationError, match=r"changes\.yaml: envelope"):
        load_contract(tmp_path)
