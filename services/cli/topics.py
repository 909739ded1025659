"""`billbus topics`: what the catalog has, how broker and registry differ from it, and making them agree."""

from collections.abc import Callable
from typing import Annotated

import typer

from services.bus import topics
from services.bus.catalog import load_catalog
from services.bus.connection import kafka_of
from services.bus.place import Place
from services.bus.rights import Right, rights_of
from services.bus.settings import load_settings
from services.cli.output import FOUND, WRONG_USE, AsJson, show, stop
from services.operations.access import AccessChange, make_access
from services.operations.schema_gate import not_as_released

NOT_RELEASED = "not as it was released, or never; run: billbus schemas check, then billbus schemas release"
EXAMPLES = """Two examples:

  billbus topics

  billbus topics --json"""
DIFF_EXAMPLES = """Two examples:

  billbus topics diff

  billbus topics diff --json"""
APPLY_EXAMPLES = """Two examples:

  billbus topics apply

  billbus topics apply --yes --begin bills.check"""
RIGHTS_EXAMPLES = """Two examples:

  billbus topics rights --user payments

  billbus topics rights --json"""
GRANT_EXAMPLES = """Two examples:

  billbus topics grant

  billbus topics grant --yes --revoke"""
cli = typer.Typer(help="Topics, subjects and first offsets.", invoke_without_command=True, epilog=EXAMPLES)

Begin = Annotated[
    list[str] | None,
    typer.Option(help="A lane that never ran may begin at the beginning of a topic that has records."),
]


@cli.callback()
def list_topics(context: typer.Context, as_json: AsJson = False) -> None:
    """List the topics of the catalog; its commands make broker and registry agree with it."""
    if context.invoked_subcommand:
        return
    columns = {
        "topic": lambda t: t.name,
        "partitions": lambda t: t.partitions,
        "kept": lambda t: "latest of each key" if t.cleanup == "compact" else f"{t.retention_days} days",
        "replay": lambda t: "yes" if t.replay else "no",
        "dlq": lambda t: "yes" if t.dlq else "no",
        "personal data": lambda t: "yes" if t.pii else "no",
        "written by": lambda t: ", ".join(t.producers),
        "read by": lambda t: ", ".join(consumer.name for consumer in t.consumers),
        "description": lambda t: t.description,
    }
    show(as_json, "Topics", columns, load_catalog(load_settings().schemas).values())


@cli.command("diff", epilog=DIFF_EXAMPLES)
def diff_topics(begin: Begin = None, as_json: AsJson = False) -> None:
    """Show how broker and registry differ from the catalog; exit code 1 if they do."""
    settings = load_settings()
    catalog = load_catalog(settings.schemas)
    found = topics.plan(
        kafka_of(settings), settings.registry, catalog, replication=settings.replication, begin=begin or ()
    )
    _show(found, as_json, "Differences" if found else "Broker and registry agree with the catalog")
    raise SystemExit(FOUND if found else 0)


@cli.command("apply", epilog=APPLY_EXAMPLES)
def apply_topics(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only show what would be done.")] = False,
    begin: Begin = None,
    as_json: AsJson = False,
) -> None:
    """Make broker and registry agree with the catalog; exit code 1 if something waits for a person."""
    settings = load_settings()
    catalog = load_catalog(settings.schemas)
    held_back = [
        topics.Change("schema", name, NOT_RELEASED, False) for name in not_as_released(settings.schemas)
    ]
    if yes and held_back:
        _show(held_back, as_json, "Nothing was done")
        raise SystemExit(FOUND)
    act = topics.apply if yes else topics.plan
    changes = held_back + act(
        kafka_of(settings), settings.registry, catalog, replication=settings.replication, begin=begin or ()
    )
    title = "Done" if yes else "Would be done; add --yes to do it"
    _show(changes, as_json, title if changes else "Broker and registry agree with the catalog")
    raise SystemExit(0 if all(change.possible for change in changes) else FOUND)


@cli.command("rights", epilog=RIGHTS_EXAMPLES)
def show_rights(
    user: Annotated[str | None, typer.Option(help="Of this service or team alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what each service and each consuming team may do on the broker, as the catalog says."""
    columns: dict[str, Callable[[tuple[str, Right]], object]] = {
        "user": lambda each: each[0],
        "resource": lambda each: each[1].resource,
        "name": lambda each: each[1].name,
        "pattern": lambda each: "prefix" if each[1].prefixed else "literal",
        "operation": lambda each: each[1].operation,
    }
    found = rights_of(load_catalog(load_settings().schemas))
    if user is not None and user not in found:
        stop(WRONG_USE, f"Nobody is named {user}; there are {', '.join(found)}.")
    rights = [(name, right) for name in found if user in (None, name) for right in found[name]]
    show(as_json, "Rights on the broker", columns, rights)


@cli.command("grant", epilog=GRANT_EXAMPLES)
def grant_rights(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only show what would be done.")] = False,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Also take from our users what the catalog does not give them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give the users of the catalog their rights, on a broker whose ACLs nothing else keeps."""
    settings = load_settings()
    with Place(kafka_of(settings), settings.registry) as place:
        found = make_access(place, rights_of(load_catalog(settings.schemas)), act=yes, revoke=revoke)
    columns: dict[str, Callable[[AccessChange], object]] = {
        "user": lambda each: each.user,
        "change": lambda each: each.action,
        "right": lambda each: each.right,
        "state": lambda each: "possible" if each.action == "grant" or revoke else "waits for --revoke",
    }
    title = "Done" if yes else "Would be done; add --yes to do it"
    show(as_json, title if found else "The broker's rights agree with the catalog", columns, found)
    raise SystemExit(0 if revoke or all(each.action == "grant" for each in found) else FOUND)


def _show(changes: list[topics.Change], as_json: bool, title: str) -> None:
    columns = {
        "what": lambda c: c.kind,
        "where": lambda c: c.name,
        "change": lambda c: c.detail,
        "state": lambda c: "possible" if c.possible else "waits for a person",
    }
    show(as_json, title, columns, changes)
