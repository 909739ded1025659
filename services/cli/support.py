"""`billbus support`: the whole table of what is supported and what is refused by name."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from services.bus.settings import load_settings
from services.bus.support import SupportMatrix
from services.cli.output import AsJson, show

EXAMPLES = """Two examples:

  billbus support

  billbus support --kind product --json"""
WIDE = 160
"""Columns of a terminal from which on there is room for what enforces a row and the test that holds it."""


def show_support(
    kind: Annotated[str, typer.Option(help="Only data, product, feature or equipment; default: all.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show every row of the integration's table, what enforces it and the test that holds it."""
    if kind not in ("", "data", "product", "feature", "equipment"):
        raise typer.BadParameter("data, product, feature or equipment", param_hint="--kind")
    matrix = SupportMatrix.load(load_settings().partners / "support.yaml")
    columns = {
        "kind": lambda r: r.kind,
        "row": lambda r: r.name,
        "slug": lambda r: r.slug,
        "status": lambda r: r.status.replace("_", " "),
        "what": lambda r: r.sentence,
        "enforced at": lambda r: [str(surface) for surface in r.surfaces],
        "test": lambda r: r.test,
    }
    if not as_json and sys.stdout.isatty() and Console().width < WIDE:
        columns = {name: columns[name] for name in ("row", "status", "what")}
    rows = [row for row in matrix.rows if kind in ("", row.kind)]
    refused = sum(not row.supported for row in rows)
    show(as_json, f"{len(rows) - refused} rows supported, {refused} refused by name", columns, rows)
