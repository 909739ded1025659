"""`billbus topics`: what the catalog has, how broker and registry differ from it, and making them agree."""

from typing import Annotated

import typer

from services.bus import topics
from services.bus.catalog import load_catalog
from services.bus.settings import load_settings
from services.cli.output import FOUND, AsJson, show
from services.operations.schema_gate import not_as_released

NOT_RELEASED = "not as it was released, or never; run: billbus schemas check, then billbus schemas release"
cli = typer.Typer(help="Topics, subjects and first offsets.", invoke_without_command=True)

Begin = Annotated[
    list[str] | None,
    typer.Option(help="A lane that never ran may begin at the beginning of a topic that has records."),
]


@cli.callback()
def list_topics(context: typer.Context, as_json: AsJson = False) -> None:
    """List the topics of the catalog."""
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


@cli.command("diff")
def diff_topics(begin: Begin = None, as_json: AsJson = False) -> None:
    """Show how broker and registry differ from the catalog; exit code 1 if they do."""
    settings = load_settings()
    catalog = load_catalog(settings.schemas)
    found = topics.plan(
        settings.bootstrap, settings.registry, catalog, replication=settings.replication, begin=begin or ()
    )
    _show(found, as_json, "Differences" if found else "Broker and registry agree with the catalog")
    raise SystemExit(FOUND if found else 0)


@cli.command("apply")
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
        settings.bootstrap, settings.registry, catalog, replication=settings.replication, begin=begin or ()
    )
    title = "Done" if yes else "Would be done; add --yes to do it"
    _show(changes, as_json, title if changes else "Broker and registry agree with the catalog")
    raise SystemExit(0 if all(change.possible for change in changes) else FOUND)


def _show(changes: list[topics.Change], as_json: bool, title: str) -> None:
    columns = {
        "what": lambda c: c.kind,
        "where": lambda c: c.name,
        "change": lambda c: c.detail,
        "state": lambda c: "possible" if c.possible else "waits for a person",
    }
    show(as_json, title, columns, changes)
