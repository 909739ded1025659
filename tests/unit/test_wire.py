"""IMT's wire names: all from the contract, and a contract that does not read stops the service."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.bus.settings import ROOT, ConfigurationError
from services.bus.wire import WireError, instant, load_wire, money, read_date
from tests.unit.parts import NOON

IMT = load_wire(ROOT / "schemas").imt


def contract(tmp_path: Path, stated: Mapping[str, Any] | str) -> Path:
    (tmp_path / "partners").mkdir()
    text = stated if isinstance(stated, str) else yaml.safe_dump(stated)
    (tmp_path / "partners" / "imt.yaml").write_text(text)
    return tmp_path


def test_renaming_a_field_in_the_contract_is_all_it_takes(tmp_path: Path) -> None:
    stated = yaml.safe_load((ROOT / "schemas" / "partners" / "imt.yaml").read_text())
    stated["services"]["payments_due"]["fields"]["balance_due"] = "Owed"
    stated["services"]["bills"]["operations"]["read_bill"]["path"] = "/images/{bill_id}/pdf"
    stated["auth"] = {"header": "X-Token", "scheme": ""}
    imt = load_wire(contract(tmp_path, stated)).imt
    assert imt.services.payments_due.read({"Owed": "1.00"}, "balance_due") == "1.00"
    assert (
        imt.services.bills.operations["read_bill"].url("https://i", bill_id="a/b")
        == "https://i/images/a%2Fb/pdf"
    )
    assert imt.auth.headers("t") == {"X-Token": "t"}


@pytest.mark.parametrize("stated", ["a: [", "{}", "[]", "services: {payments_due: 1}"])
def test_a_contract_that_does_not_read_says_what_is_wrong(tmp_path: Path, stated: str) -> None:
    with pytest.raises(ConfigurationError, match=r"imt\.yaml"):
        load_wire(contract(tmp_path, stated))


def test_a_missing_contract_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_wire(tmp_path)


def test_words_and_errors_go_both_ways() -> None:
    assert [IMT.flag(value) for value in (True, False)] == ["T", "F"]
    assert [IMT.read_flag(word, "Value") for word in ("T", "F")] == [True, False]
    with pytest.raises(WireError, match="Value"):
        IMT.read_flag("yes", "Value")
    assert IMT.errors.code({"Code": "UNKNOWN_ACCOUNT"}) == "unknown_account"
    assert IMT.errors.code(["Code"]) is None


def test_only_names_that_imt_has_go_out() -> None:
    datapump = IMT.services.datapump
    assert datapump.out(payment_guid="g", agent=None) == {"PaymentGUID": "g"}
    with pytest.raises(KeyError):
        datapump.out(convenience_fee="1.00")


def test_amounts_and_instants_are_written_as_agreed() -> None:
    assert (money(Decimal("5")), instant(NOON)) == ("5.00", "2026-11-23T12:00:00.000Z")
    with pytest.raises(WireError):
        read_date("11/23/2026", "BatchDate")
