"""`billbus schemas`: whether a change breaks anybody who reads, and releasing it when it does not."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from services.bus.settings import load_settings
from services.cli.output import FINE, FOUND, WRONG_USE, AsJson, print_json, stop
from services.operations.schema_gate import NotReleasable, Refusal, as_json, check_schemas, release_schemas

CHECK_EXAMPLES = """Two examples:

  billbus schemas check

  billbus schemas check --folder schemas --json"""
RELEASE_EXAMPLES = """Two examples:

  billbus schemas release

  billbus schemas release --folder schemas --json"""
cli = typer.Typer(help="The topics' schemas: checked before they are released.", no_args_is_help=True)
Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="The folder of the topics; default: BILLBUS_SCHEMAS.", file_okay=False, exists=True
    ),
]


@cli.command("check", epilog=CHECK_EXAMPLES)
def check(folder: Folder = None, as_json_: AsJson = False) -> None:
    """Check each schema that is not released against all released versions. Needs no broker, no registry.

    Exit code 0: nobody breaks; 1: something is refused; 2: wrong use or configuration.
    """
    schemas = _folder(folder)
    try:
        new, refusals = check_schemas(schemas)
    except ValueError as error:
        stop(WRONG_USE, str(error))
    if as_json_:
        print_json({"new": new, "refusals": [as_json(each) for each in refusals]})
    else:
        _tell(refusals, schemas)
    if not refusals and not as_json_:
        print(f"{new} new, nobody breaks" if new else "All schemas are as they were released")
    raise SystemExit(FOUND if refusals else FINE)


@cli.command("release", epilog=RELEASE_EXAMPLES)
def release(folder: Folder = None, as_json_: AsJson = False) -> None:
    """Release what the check lets pass: its checksum is kept, and from then on it never changes.

    Exit code 0: done, or nothing to do; 1: something is refused, nothing was released; 2: wrong use.
    """
    schemas = _folder(folder)
    try:
        released = release_schemas(schemas)
    except NotReleasable as error:
        if as_json_:
            print_json({"released": [], "refusals": [as_json(each) for each in error.refusals]})
        else:
            _tell(error.refusals, schemas)
        raise SystemExit(FOUND) from None
    except ValueError as error:
        stop(WRONG_USE, str(error))
    if as_json_:
        print_json({"released": released, "refusals": []})
    else:
        print("\n".join(f"released {name}" for name in released) or "Nothing new to release")


def _folder(named: Path | None) -> Path:
    schemas = named or load_settings().schemas
    if not any(schemas.glob("*/topic.yaml")):
        stop(WRONG_USE, f"{schemas}: no topic.yaml in any folder")
    return schemas


def _tell(refusals: list[Refusal], schemas: Path) -> None:
    """As compilers do, so that editors find the place; to stderr, since it is what went wrong."""
    for each in refusals:
        against = f" against {each.against}" if each.against else ""
        lines = [f"{schemas / each.file}:{each.line}: {each.rule}{against}: {each.what}"]
        lines += [f"    breaks {who.name} ({who.contact}): {who.how}" for who in each.breaks]
        sys.stderr.write("\n".join([*lines, f"    instead: {each.instead}"]) + "\n")
