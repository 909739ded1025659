"""What a person can look at and try while the demo is kept running."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from deploy.local.installation import Installation
from deploy.local.processes import SERVICES


def show_around(console: Console, installation: Installation, data: Path) -> None:
    """Every address, and what to try."""
    say = console.out
    say("\nIt is left running; `make down` ends it.\n")
    say(f"  Kafka       {installation.bootstrap}")
    say(f"  registry    {installation.registry}")
    say(f"  sandbox     {installation.url('sandbox')}/   (a page: both partners, and what they can be told)")
    for service in SERVICES:
        say(f"  {service:<11} {installation.url(service)}   (/readyz, /metrics, /openapi.json)")
    sandbox, payments = installation.url("sandbox"), installation.url("payments")
    bearer = f"Authorization: Bearer $(cat {data}/secrets/acme-intake-bearer)"
    say("\nWhat to try:")
    say("  # IC tells of a payment; look for it in IMT's ledger")
    say(f'  curl -s {sandbox}/control/play/pay -d \'{{"biller": "acme", "payments":')
    say('    [{"InvoiceNumber": "A2611-00007", "PaymentAmount": "25.00"}]}\'')
    say(f"  curl -s '{sandbox}/control/ledger/payments?biller=acme' | tail -c 600")
    say("  # ask for what is not supported")
    say(f'  curl -s -X POST -H "{bearer}" {payments}/ic/acme/voids')
    say("  # IMT goes away, and comes back")
    say(f'  curl -s -X PUT {sandbox}/control/faults -d \'{{"service": "imt", "kind": "maintenance"}}\'')
    say(f"  curl -s -X DELETE {sandbox}/control/faults")
    say(f"  # the logs are in {data}/logs\n")
