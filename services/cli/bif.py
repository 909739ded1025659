"""`billbus bif`: a BIF file, checked without a bus or sent to the invoices service."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from services.bus.billers import Biller, read_biller
from services.bus.secrets import Secrets
from services.bus.settings import PORTS, ConfigurationError, Settings, load_settings
from services.bus.support import SupportMatrix
from services.cli.output import FINE, FOUND, UNREACHABLE, WRONG_USE, AsJson, print_json, print_table, stop
from services.cli.progress import progress
from services.operations.bif import BifReport, NotSent, check_bif, send_bif

CHECK_EXAMPLES = """Two examples:

  billbus bif check acme.bif

  billbus bif check acme.bif --biller acme --json"""
SEND_EXAMPLES = """Two examples:

  billbus bif send acme.bif --biller acme

  billbus bif send acme.bif --biller acme --to https://invoices.example --json"""
cli = typer.Typer(help="Biller Invoice Files from IMT.", no_args_is_help=True)
Source = Annotated[Path, typer.Argument(metavar="FILE", help="The BIF file.", exists=True, dir_okay=False)]
Owner = Annotated[str, typer.Option("--biller", help="The biller's slug; default: as the file names it.")]


@cli.command("check", epilog=CHECK_EXAMPLES)
def check_file(source: Source, biller: Owner = "", as_json: AsJson = False) -> None:
    """Check a file as the intake does, and publish nothing. No bus is needed.

    Exit code 0: all rows are good; 1: some rows would be refused; 2: the file would be refused whole.
    """
    settings = load_settings()
    support = SupportMatrix.load(settings.partners / "support.yaml")
    owners = known_billers(settings, support, biller)
    with progress("Checking") as told:
        report = check_bif(source, owners, settings.partners, support, told)
    if as_json:
        print_json(asdict(report))
    else:
        show(report, source.name)
    raise SystemExit(WRONG_USE if report.refused_whole else FOUND if report.refused else FINE)


@cli.command("send", epilog=SEND_EXAMPLES)
def send_file(
    source: Source,
    biller: Annotated[str, typer.Option("--biller", help="The biller's slug.")],
    to: Annotated[
        str, typer.Option(help="Address of the invoices service.")
    ] = f"http://127.0.0.1:{PORTS['invoices']}",
    as_json: AsJson = False,
) -> None:
    """Send a file to the invoices service, with the biller's own credential.

    Exit code 0: all rows were taken; 1: some rows were refused; 2: the file was refused whole; 3: no answer,
    and the same file can be sent again.
    """
    settings = load_settings()
    support = SupportMatrix.load(settings.partners / "support.yaml")
    (owner,) = known_billers(settings, support, biller)
    try:
        with progress("Sending") as told:
            answer = asyncio.run(send_bif(source, to, owner, Secrets(settings.secrets), told))
    except NotSent as error:
        stop(UNREACHABLE, f"The file was not taken for certain, send it again: {error}.")
    body = answer.body
    if not answer.ok:
        said = ". ".join(str(body[name]) for name in ("title", "detail") if body.get(name))
        stop(UNREACHABLE if answer.status in (429, 503) else WRONG_USE, f"{answer.status}: {said}")
    if as_json:
        print_json(body)
    else:
        print_table(f"{source.name} was taken", ["", ""], [
            ("file id", body["file_id"]),
            ("rows", body["rows"]),
            ("accepted", body["accepted"]),
            ("refused", body["refused"]),
            ("balance due, USD", body["balance_due"]),
        ])  # fmt: skip
        show_refusals(body["refusals"])
    raise SystemExit(FOUND if body["refused"] else FINE)


def known_billers(settings: Settings, support: SupportMatrix, slug: str) -> list[Biller]:
    """The billers' files, or one of them; a check needs none of their secrets."""
    paths = sorted(settings.billers.glob("*.yaml"))
    wanted = [path for path in paths if not slug or path.stem == slug]
    if not wanted:
        stop(WRONG_USE, f"There is no biller {slug!r}; known are {', '.join(path.stem for path in paths)}.")
    found = []
    for path in wanted:
        biller, problems = read_biller(path, Secrets(settings.secrets), support)
        if biller is None:
            raise ConfigurationError([f"{path}: {problem}" for problem in problems])
        found.append(biller)
    return found


def show(report: BifReport, name: str) -> None:
    if report.refused_whole:
        print_table(f"{name} would be refused whole", ["", ""], [("reason", report.refused_whole)])
        return
    print_table(f"{name} for {report.biller}", ["", ""], [
        ("rows", report.rows),
        ("would be accepted", report.accepted),
        ("would be refused", report.refused),
        ("balance due, USD", report.balance_due),
        ("columns that are ignored", ", ".join(report.ignored_columns) or "none"),
        ("SHA-256", report.file_id),
    ])  # fmt: skip
    show_refusals([asdict(refusal) for refusal in report.refusals])


def show_refusals(refusals: Sequence[dict[str, Any]]) -> None:
    if refusals:
        columns = ["line", "column", "expected", "found"]
        print_table("Refused", columns, [[each[name] for name in columns] for each in refusals])
