"""The command `billbus`: each command stands in a module of its own and is registered here."""

import typer

from services.bus.settings import ConfigurationError
from services.cli import (
    bif,
    convert,
    doctor,
    drift,
    export,
    onboard,
    parked,
    pause,
    reconcile,
    replay,
    rewind,
    run,
    schemas,
    status,
    support,
    tail,
    topics,
    trace,
)
from services.cli.completion import offer_values
from services.cli.output import EXIT_CODES, UNREACHABLE, WRONG_USE, stop

cli = typer.Typer(
    name="billbus",
    help=f"The event bus between IMT and InvoiceCloud, for those who run it. {EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

cli.command("run", epilog=run.EXAMPLES)(run.run_service)
cli.command("drift", epilog=drift.EXAMPLES)(drift.compare_enrolment)
cli.command("doctor", epilog=doctor.EXAMPLES)(doctor.run_doctor)
cli.command("onboard", epilog=onboard.EXAMPLES)(onboard.onboard_biller)
cli.command("export", epilog=export.EXAMPLES)(export.export_topic)
cli.command("reconcile", epilog=reconcile.EXAMPLES)(reconcile.reconcile_day)
cli.command("pause", epilog=pause.PAUSE_EXAMPLES)(pause.pause_deliveries)
cli.command("resume", epilog=pause.RESUME_EXAMPLES)(pause.resume_deliveries)
cli.command("replay", epilog=replay.EXAMPLES)(replay.replay_day)
cli.command("rewind", epilog=rewind.EXAMPLES)(rewind.rewind_group)
cli.command("status", epilog=status.EXAMPLES)(status.show_status)
cli.command("support", epilog=support.EXAMPLES)(support.show_support)
cli.command("tail", epilog=tail.EXAMPLES)(tail.tail_topic)
cli.command("trace", epilog=trace.EXAMPLES)(trace.trace_one)
cli.add_typer(bif.cli, name="bif")
cli.add_typer(convert.cli, name="convert")
cli.add_typer(parked.cli, name="parked")
cli.add_typer(schemas.cli, name="schemas")
cli.add_typer(topics.cli, name="topics")

offer_values(cli)


def main() -> None:
    """Entry point: faults that a person can mend end in sentences and an exit code, not in a traceback."""
    try:
        cli()
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
