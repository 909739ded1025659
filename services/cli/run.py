"""`billbus run`: one service, or the sandbox, as this process."""

from enum import StrEnum
from importlib import import_module
from typing import Annotated

import typer

from services.bus.settings import load_settings

EXAMPLES = """Two examples:

  billbus run payments

  BILLBUS_LOG_LEVEL=DEBUG billbus run sandbox"""


class Name(StrEnum):
    invoices = "invoices"
    balances = "balances"
    payments = "payments"
    settings = "settings"
    bills = "bills"
    sandbox = "sandbox"


def run_service(name: Annotated[Name, typer.Argument(help="Which one.")]) -> None:
    """Run a service until SIGTERM or Ctrl-C. Logs are JSON on stderr; settings come from the environment."""
    if name is Name.sandbox:
        import_module("services.sandbox.__main__").main()
        return
    settings = load_settings(service=str(name))
    # only the service that runs is loaded
    build = import_module(f"services.{name}.app").build
    import_module("services.bus.service").run(build, settings)
