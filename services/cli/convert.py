"""`billbus convert`: what an insurer brings along at its go-live."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from services.bus.accounts import normalise
from services.bus.billers import Biller
from services.bus.settings import load_settings
from services.cli.billers import named_biller
from services.cli.output import FINE, FOUND, WRONG_USE, AsJson, print_json, print_table, stop
from services.cli.progress import progress
from services.operations.conversion_layout import LayoutError, load_layout
from services.operations.conversion_records import FileRefused
from services.operations.convert import Conversion, ConversionReport

EXAMPLES = """Two examples:

  billbus convert autopay imt.csv --biller acme --out ic.csv

  billbus convert autopay imt.csv --biller acme --out ic.csv --rejects rejects.csv --json"""
cli = typer.Typer(help="Data conversions at an insurer's go-live.", no_args_is_help=True)


@cli.callback()
def convert() -> None:
    """Data conversions at an insurer's go-live."""


@cli.command("autopay", epilog=EXAMPLES)
def convert_autopay(
    source: Annotated[Path, typer.Argument(help="IMT's autopay records (CSV).")],
    biller: Annotated[str, typer.Option(help="Whose records they are: the slug of its file.")],
    out: Annotated[Path, typer.Option(help="The file for InvoiceCloud; replaced if it is there.")],
    rejects: Annotated[
        Path | None, typer.Option(help="Where the rejects are told; default: beside OUT, as .rejects.csv.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn IMT's autopay records into the file that InvoiceCloud takes at go-live.

    Exit code 0: all converted; 1: some records were rejected, the others are converted; 2: the file was
    refused whole and nothing was written.
    """
    told = rejects or out.with_name(f"{out.stem}.rejects.csv")
    if len({path.resolve() for path in (source, out, told)}) < 3:
        stop(WRONG_USE, "SOURCE, --out and --rejects must be three different files.")
    if not (out.parent.is_dir() and told.parent.is_dir()):
        stop(WRONG_USE, "The folder for --out or --rejects does not exist; create it first.")
    settings = load_settings()
    owner = named_biller(settings.billers, biller, settings.partners)
    try:
        layout = load_layout(settings.partners / "autopay-conversion.yaml")
        conversion = Conversion(layout, owner.invoice_cloud.biller_guid, lambda n: _matched(n, owner))
        report = _run(conversion, source, out, told)
    except (FileRefused, LayoutError) as error:
        stop(WRONG_USE, f"Nothing was converted: {error}.")
    if as_json:
        print_json(asdict(report) | {"out": out, "rejects": told, "adds_up": report.adds_up})
    else:
        _show(report, out, told)
    raise SystemExit(FOUND if report.rejected else FINE)


def _matched(number: str, biller: Biller) -> str | None:
    """The number as it is matched, if it is one of the biller's canonical numbers."""
    fits = re.fullmatch(biller.accounts.pattern, number) is not None
    return normalise(number, biller.accounts) or None if fits else None


def _run(conversion: Conversion, source: Path, out: Path, rejects: Path) -> ConversionReport:
    with progress("Converting") as told:
        return conversion.run(source, out, rejects, told)


def _show(report: ConversionReport, out: Path, rejects: Path) -> None:
    rows = [
        ("records read", report.records, ""),
        *((f"  converted, {name}", t.count, t.amount) for name, t in sorted(report.by_tender.items())),
        ("converted", report.converted, report.control_total),
        ("not enrolled", report.not_enrolled, ""),
        ("repeats", report.repeats, ""),
        *((f"  rejected: {reason}", count, "") for reason, count in sorted(report.by_reason.items())),
        ("rejected", report.rejected, ""),
    ]
    checked = "checked" if report.control_checked else "not there, or not summable"
    print_table(f"Autopay conversion into {out}", ["", "records", "control total, USD"], rows)
    print_table("", ["", ""], [
        ("the input's own control record", checked),
        ("rejects, by line and column", rejects),
        ("SHA-256", report.sha256),
    ])  # fmt: skip
