"""`billbus replay`: a day once more through the running services, which do what is left to be done."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, tzinfo
from typing import Annotated, cast, get_args

import typer

from services.bus.billers import Biller
from services.bus.catalog import Topic, load_catalog
from services.bus.clock import Clock
from services.bus.settings import Settings, load_settings
from services.cli.acting import Reason, Yes, operator_of, require_reason
from services.cli.billers import named_biller
from services.cli.output import FINE, FOUND, WRONG_USE, AsJson, print_json, print_table, stop
from services.cli.progress import steps
from services.cli.records import as_text, instant_of, named_topic
from services.cli.stopping import stopped_by_a_signal
from services.operations.day import Window, day_of
from services.operations.replay import REPLAYABLE, Replay, Report, cannot_be_asked, sums_of
from services.operations.replay_lock import Busy
from services.operations.replay_outcomes import Interrupted
from services.operations.replay_sending import RATE
from services.operations.replay_survey import ON_ITS_WAY, STATES, Only, Selection, Survey

EXAMPLES = """Two examples:

  billbus replay payment.received --day 2026-11-20 --biller acme

  billbus replay payment.received --day 2026-11-20 --biller acme --recheck --yes --reason "IMT restored a backup"
"""  # noqa: E501 - a command line
FASTEST = 100_000.0


def replay_day(
    topic: Annotated[str, typer.Argument(help="payment.received, invoice.issued or setting.changed.")],
    day: Annotated[str, typer.Option(help="The business day, such as 2026-11-20: each biller's own.")] = "",
    biller: Annotated[str, typer.Option(help="Only this biller's; default: every biller's.")] = "",
    account: Annotated[str, typer.Option(help="Only this account's: IMT's number, as on the topic.")] = "",
    begin: Annotated[
        str, typer.Option("--from", help="Not before this instant, as 2026-11-20T09:05:00-06:00.")
    ] = "",
    end: Annotated[str, typer.Option("--to", help="Only before this instant.")] = "",
    only: Annotated[
        str, typer.Option("--only-outcome", help="Only what is parked, refused, or missing an outcome.")
    ] = "",
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Ask the partner for what is posted; deliver what it lacks.")
    ] = False,
    rate: Annotated[
        float, typer.Option(help="At most so many records a second.", min=0.1, max=FASTEST)
    ] = RATE,
    yes: Yes = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Bring a day's records once more to the running services: what is settled is skipped.

    Without --yes it only counts them. The same command goes on where one was ended, by Ctrl-C or a crash.

    Exit code 0: done; 1: some are still open; 2: wrong use, or another replay of the topic runs; 3:
    unreachable.
    """
    settings = load_settings()
    require_reason(yes=yes, reason=reason)
    catalog = load_catalog(settings.schemas)
    found = named_topic(catalog, topic)
    if found.name not in REPLAYABLE:
        short = ", ".join(catalog[name].short for name in REPLAYABLE)
        stop(WRONG_USE, f"{found.short} cannot be replayed; {short} can.")
    billers = _billers(settings, biller)
    if yes and not (day or end):
        stop(WRONG_USE, "--yes needs --to beside --from: so the same command goes on if this one is ended.")
    if account and not biller:
        stop(WRONG_USE, "--account needs --biller: two billers may have the same number.")
    if recheck and (silent := cannot_be_asked(found.name, billers)):
        stop(
            WRONG_USE,
            f"{', '.join(silent)}: this partner has no look-up of payments, so --recheck cannot ask it; "
            "billbus reconcile compares the day.",
        )
    if only and only not in get_args(Only):
        stop(WRONG_USE, f"--only-outcome is parked, refused or missing, not {only!r}.")
    windows = _windows(billers, day, begin, end)
    selection = Selection(
        topic=found, windows=windows, account=account, only=cast("Only", only), recheck=recheck
    )
    zone = billers[biller].timezone if biller else UTC
    said = f"{day or 'a window'} of {biller or 'every biller'}"
    try:
        code = _replay(settings, catalog, selection, said, zone, rate, yes, reason, as_json)
    except Busy:
        stop(
            WRONG_USE,
            f"Another replay of {found.short} runs, here or elsewhere: wait for its end. One that was killed "
            "counts as running for some seconds more.",
        )
    except Interrupted:
        stop(FOUND, "Ended before anything was emitted.")
    raise SystemExit(code)


def _billers(settings: Settings, biller: str) -> dict[str, Biller]:
    slugs = [biller] if biller else sorted(path.stem for path in settings.billers.glob("*.yaml"))
    if not slugs:
        stop(WRONG_USE, f"There is no biller's file in {settings.billers}.")
    return {slug: named_biller(settings.billers, slug, settings.partners) for slug in slugs}


def _windows(billers: Mapping[str, Biller], day: str, begin: str, end: str) -> dict[str, Window]:
    """Of each biller; --day, --from and --to narrow each other."""
    if not (day or begin):
        stop(WRONG_USE, "Say which: --day 2026-11-20, or --from and --to.")
    try:
        first = instant_of(begin, UTC) if begin else None
        last = instant_of(end, UTC) if end else None
        if not day:
            assert first is not None
            whole = Window(first, last or Clock().now())
            return dict.fromkeys(billers, whole.within(None, None))
        wanted = date.fromisoformat(day)
    except ValueError as error:
        stop(WRONG_USE, f"{error}.")
    return {slug: day_of(each, wanted).within(first, last) for slug, each in billers.items()}


def _replay(
    settings: Settings,
    catalog: Mapping[str, Topic],
    selection: Selection,
    said: str,
    zone: tzinfo,
    rate: float,
    yes: bool,
    reason: str,
    as_json: bool,
) -> int:
    """Its exit code."""
    with steps() as told:
        replay = Replay(
            settings=settings,
            catalog=catalog,
            clock=Clock(),
            selection=selection,
            steps=told,
            stopped=stopped_by_a_signal(),
            rate=rate,
        )
        with replay:
            if not yes:
                survey = replay.survey()
            else:
                report = asyncio.run(replay.run(said, operator_of(settings), reason))
    if not yes:
        _show_survey(selection, survey, said, zone, rate, as_json)
        return FINE
    _show_report(selection, report, said, as_json)
    return FINE if report.finished else FOUND


def _show_survey(
    selection: Selection, survey: Survey, said: str, zone: tzinfo, rate: float, as_json: bool
) -> None:
    rows = [
        {
            "biller": biller,
            "from": as_text(selection.windows[biller].begin, zone),
            "to": as_text(selection.windows[biller].end, zone),
            "state": state,
            "records": survey.states[biller][state],
            "would_be": _fate(selection, state),
        }
        for biller in sorted(survey.states)
        for state in STATES
        if survey.states[biller][state]
    ]
    selected, wanted = sum(map(survey.selected, survey.states)), survey.wanted.total()
    if as_json:
        totals = {"topic": selection.topic.name, "selected": selected, "to_emit": wanted}
        print_json(totals | {"rows": rows})
        return
    columns = ["biller", "state", "records", "would be"]
    if rows:
        told = [[row[name.replace(" ", "_")] for name in columns] for row in rows]
        print_table(f"{selection.topic.short}, {said}", columns, told)
    if len(selection.windows) == 1:
        (window,) = selection.windows.values()
        print(f"From {as_text(window.begin, zone)} to {as_text(window.end, zone)} ({zone}).")
    print(f"{wanted} of {selected} selected records would be emitted, in {wanted / rate:.0f} s at the least.")
    if wanted:
        print('Nothing was sent. To do it, the same command with: --yes --reason "why"')


def _fate(selection: Selection, state: str) -> str:
    """What would happen to records of which this has become."""
    if state == ON_ITS_WAY:
        return "left alone: being delivered"
    if not selection.sends(state):
        return "skipped"
    if state == "posted":
        return "asked for, delivered if lacking"
    return "delivered, asked for first if in doubt"


def _show_report(selection: Selection, report: Report, said: str, as_json: bool) -> None:
    if as_json:
        print_json({"topic": selection.topic.name} | asdict(report))
        return
    if report.continued:
        print(f"Went on with run {report.run}, which had begun and not ended.")
    names = ["biller", "selected", "skipped", "delivered", "refused", "parked", "open"]
    if report.rows:
        rows = [[getattr(row, name) for name in names] for row in report.rows]
        print_table(f"{selection.topic.short}, {said}, run {report.run}", names, rows)
    print(f"{sums_of(report.rows)}; {report.emitted} emitted now.")
    if not report.finished:
        print("It is not over: the same command goes on where this one ended.")
