"""How every command speaks: tables for people, JSON for programs, the same exit codes everywhere."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

FINE, FOUND, WRONG_USE, UNREACHABLE = 0, 1, 2, 3
EXIT_CODES = "Exit codes: 0 fine, 1 something was found, 2 wrong use or configuration, 3 unreachable."

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]

STYLES = {
    "supported": "green",
    "custom": "cyan",
    "not supported": "red",
    "fine": "green",
    "note": "yellow",
    "wrong": "red",
    "unreachable": "red",
}


def print_json(value: Any) -> None:
    """JSON on stdout, as one document."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """A table on stdout; as wide as it needs to be where stdout is no terminal. `right`: of figures."""
    console = Console(width=None if sys.stdout.isatty() else 240)
    if title:
        console.print(escape(title), style="italic")  # as its own line: a table's title wraps at its width
    table = Table(header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left")
    for row in rows:
        table.add_row(*(_cell(item) for item in row))
    console.print(table)


def show(
    as_json: bool,
    title: str,
    columns: Mapping[str, Callable[[Any], object]],
    items: Iterable[Any],
) -> None:
    """The same items as a table or as JSON; `columns` says for each column how to read an item."""
    rows = [{name: read(item) for name, read in columns.items()} for item in items]
    if as_json:
        print_json([{name.replace(" ", "_"): value for name, value in row.items()} for row in rows])
    elif rows:
        print_table(title, list(columns), [list(row.values()) for row in rows])
    else:
        print(title)


def _cell(value: object) -> str:
    text = escape("\n".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value))
    style = STYLES.get(str(value))
    return f"[{style}]{text}[/]" if style else text


def stop(code: int, *sentences: str) -> NoReturn:
    """Ends the command with sentences on stderr, and as a line of JSON on stdout where JSON was asked for."""
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"errors": list(sentences)}) + "\n")
    for sentence in sentences:
        sys.stderr.write(sentence + "\n")
    raise SystemExit(code)
