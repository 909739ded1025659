"""A biller, its accounts and settings, for the tests of the settings service; all invented."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import yaml

from deploy.local.processes import ROOT
from services.bus.accounts import AccountsView
from services.bus.billers import Biller, expand
from services.bus.support import SupportMatrix
from services.events import AccountCurrent, SettingChanged
from services.settings.change import ChangeContract, ChangeReader, load_contract

PARTNERS = ROOT / "schemas" / "partners"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ACCOUNT = "0000012345"
POLICY = "HO-0077"


def acme(**parts: Any) -> Biller:
    stated = yaml.safe_load((ROOT / "deploy" / "local" / "billers" / "acme.yaml").read_text())
    return Biller.model_validate(expand(stated | parts, "", []))


def support() -> SupportMatrix:
    return SupportMatrix.load(PARTNERS / "support.yaml")


def contract(**parts: Any) -> ChangeContract:
    return load_contract(PARTNERS).model_copy(update=parts)


def reader(**parts: Any) -> ChangeReader:
    return ChangeReader(contract(**parts), support())


def account(number: str, *policies: str) -> AccountCurrent:
    return AccountCurrent(
        biller="acme",
        account=number,
        normalised=number.lstrip("0"),
        policies=policies,
        invoice_number=f"INV-{number}",
        invoice_date=date(2026, 11, 1),
        invoices=(f"INV-{number}",),
        updated_at=NOON,
    )


def accounts(*known: AccountCurrent) -> AccountsView:
    view = AccountsView()
    for each in known or (account(ACCOUNT, POLICY, "AU-0078"),):
        view.take(each)
    view.ready = True
    return view


def setting(**parts: Any) -> SettingChanged:
    return replace(
        SettingChanged(
            biller="acme",
            account=ACCOUNT,
            change_id="c-1",
            number="12345",
            number_kind="account",
            imt_number=ACCOUNT,
            indicator="autopay",
            value=True,
            changed_at=NOON,
            resolution="matched",
            content="0123456789abcdef",
            received_at=NOON,
        ),
        **parts,
    )
