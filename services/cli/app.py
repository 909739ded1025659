"""The command `billbus`: each command stands in a module of its own, and only the one that is asked for is
loaded: all of them together take a second, with every client of every partner."""

import os
import sys
from importlib import import_module
from typing import Any

import typer

from services.bus.settings import ConfigurationError
from services.cli.output import EXIT_CODES, UNREACHABLE, WRONG_USE, stop

COMMANDS = {
    "run": ("run", "run_service", "EXAMPLES"),
    "status": ("status", "show_status", "EXAMPLES"),
    "doctor": ("doctor", "run_doctor", "EXAMPLES"),
    "trace": ("trace", "trace_one", "EXAMPLES"),
    "tail": ("tail", "tail_topic", "EXAMPLES"),
    "reconcile": ("reconcile", "reconcile_day", "EXAMPLES"),
    "replay": ("replay", "replay_day", "EXAMPLES"),
    "rewind": ("rewind", "rewind_group", "EXAMPLES"),
    "drift": ("drift", "compare_enrolment", "EXAMPLES"),
    "pause": ("pause", "pause_deliveries", "PAUSE_EXAMPLES"),
    "resume": ("pause", "resume_deliveries", "RESUME_EXAMPLES"),
    "onboard": ("onboard", "onboard_biller", "EXAMPLES"),
    "export": ("export", "export_topic", "EXAMPLES"),
    "support": ("support", "show_support", "EXAMPLES"),
}
"""By name: its module in services.cli, its function, and what the module calls its examples."""
GROUPS = ("parked", "bif", "convert", "topics", "schemas")
"""Commands of several words; each is `cli` of the module of its name."""


def assembled(only: str | None = None) -> typer.Typer:
    """The whole application, or one that knows a single command."""
    made = typer.Typer(
        name="billbus",
        help=f"The event bus between IMT and InvoiceCloud, for those who run it. {EXIT_CODES}",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    made.callback()(_several)
    for name, (module, function, examples) in COMMANDS.items():
        if only in (None, name):
            found = import_module(f"services.cli.{module}")
            made.command(name, epilog=getattr(found, examples))(getattr(found, function))
    for name in GROUPS:
        if only in (None, name):
            made.add_typer(import_module(f"services.cli.{name}").cli, name=name)
    if only is None:
        import_module("services.cli.completion").offer_values(made)
    return made


def _several() -> None:
    """Keeps the command's name a word of its own where only one is known."""


def __getattr__(name: str) -> Any:
    if name != "cli":
        raise AttributeError(name)
    return globals().setdefault("cli", assembled())


def asked_for(arguments: list[str]) -> str | None:
    """The command that these arguments begin with; None where all have to be known, as to list them."""
    first = arguments[0] if arguments else ""
    completes = "_BILLBUS_COMPLETE" in os.environ
    return first if not completes and (first in COMMANDS or first in GROUPS) else None


def main() -> None:
    """Entry point: faults that a person can mend end in sentences and an exit code, not in a traceback."""
    try:
        assembled(asked_for(sys.argv[1:]))()
    except ConfigurationError as error:
        stop(WRONG_USE, *error.problems)
    except Exception as error:
        sentence = _unreachable(error)
        if sentence is None:
            raise
        stop(UNREACHABLE, sentence)


def _unreachable(error: Exception) -> str | None:
    # loaded late: most commands need no Kafka client
    from confluent_kafka import KafkaException
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    from services.bus.topics import Unreachable

    if isinstance(error, Unreachable):
        return str(error)
    if isinstance(error, KafkaException):
        return f"Kafka said no: {error.args[0].str()}"
    if isinstance(error, SchemaRegistryError):
        return f"The schema registry said no: {error}"
    return None


if __name__ == "__main__":
    main()
