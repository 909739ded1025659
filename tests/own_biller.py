"""A biller that one test has to itself: its log, its ledger and its day hold nothing of other tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from deploy.local.processes import DEMO_BILLERS, Processes
from services.events import AccountCurrent
from tests.on_the_bus import Parts, publish


def state_biller(folder: Path, slug: str, *, batch: dict[str, Any] | None = None, **imt: Any) -> Path:
    """Writes the file of a biller like acme whose local time is about noon; `batch` and `imt` add to it."""
    told = yaml.safe_load((DEMO_BILLERS / "acme.yaml").read_text().replace("acme", slug))
    # the sign of these names is the wrong way round
    told["timezone"] = f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
    told["batch"] |= {"cut_off": "23:00"} | (batch or {})
    told["imt"] |= imt
    path = folder / f"{slug}.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


def know(stack: Parts, slug: str, accounts: Sequence[str]) -> None:
    """Puts accounts onto the bus, each with one invoice; before a service starts, so that it knows them."""
    publish(
        stack,
        *(
            AccountCurrent(
                biller=slug,
                account=account,
                normalised=account.lstrip("0"),
                invoice_number=f"INV-{account}",
                invoice_date=date(2026, 11, 1),
                invoices=(f"INV-{account}",),
                updated_at=datetime(2026, 11, 1, tzinfo=UTC),
            )
            for account in accounts
        ),
    )


def control(processes: Processes, method: str, path: str, **given: Any) -> Any:
    """A call to the sandbox's control API."""
    answer = httpx.request(method, f"{processes.url('sandbox')}/control{path}", timeout=30, **given)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def seed(processes: Processes, slug: str, accounts: Sequence[str]) -> None:
    """What IMT has of these accounts: 500 USD due."""
    told = [{"account": account, "current_charges": "500.00"} for account in accounts]
    control(processes, "POST", "/accounts", json={"biller": slug, "accounts": told})
