"""All that is known of one parked delivery, on a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from rich.table import Table

from services.bus.catalog import Topic
from services.bus.log import mask_account
from services.cli.parked_screens import (
    NO_ACCOUNT,
    account_of,
    add_row,
    age,
    as_object,
    console,
    moment,
    plan_words,
)
from services.cli.records import as_text, readable
from services.operations.parked_reasons import meaning_of
from services.operations.parked_records import ParkedRecord
from services.operations.personal_data import masked

if TYPE_CHECKING:
    from services.bus.identity import Outcome
    from services.operations.parked_plan import Choice
    from services.operations.parked_show import Known


def show_known(
    known: Known, catalog: Mapping[str, Topic], now: datetime, zone: tzinfo, *, personal_data: bool
) -> None:
    """All of one, in the order in which a person asks."""
    parked, meaning = known.parked, meaning_of(known.parked.reason)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    since = f"{moment(parked.settled_at, zone)} ({age(now - parked.settled_at)})"
    add_row(table, "parked", f"{parked.family} {parked.natural_id} of {parked.biller}, since {since}")
    add_row(table, "reason", f"{parked.reason}: {parked.detail or ''}".rstrip(": "))
    add_row(table, "", meaning.means)
    add_row(table, "what to do", meaning.advice)
    add_row(table, "a retry", _would(known.retry))
    for name, value in _fact(known, catalog, personal_data).items():
        add_row(table, "" if name != "account" else "the fact", f"{name} = {readable(value, zone)}")
    if known.fact is None:
        add_row(table, "the fact", known.retry.why)
    place = f"{parked.topic} {parked.partition}@{parked.offset}"
    add_row(table, "stands at", f"{place}, taken {moment(known.taken, zone)}" if known.taken else place)
    for number, outcome in enumerate(known.outcomes):
        add_row(table, "" if number else "outcomes", _outcome(outcome, parked, zone))
    if known.says is not None:
        says, told = known.says, _told(known, personal_data)
        add_row(table, f"{says.partner} now", f"{says.verdict}: {says.said}")
        if told:
            add_row(table, "", ", ".join(f"{name} = {readable(value, zone)}" for name, value in told.items()))
    console().print(table)
    print(f"Times in {zone}.")


def known_object(known: Known, catalog: Mapping[str, Topic], *, personal_data: bool) -> Any:
    """As JSON."""
    parked, meaning, says = known.parked, meaning_of(known.parked.reason), known.says
    told = {
        **as_object(parked, parked.settled_at, personal_data=personal_data),
        "means": meaning.means,
        "what_to_do": meaning.advice,
        "retry": {"would": known.retry.does, "why": known.retry.why},
        "fact": _fact(known, catalog, personal_data) or None,
        "taken_at": known.taken,
        "outcomes": [_outcome_object(outcome) for outcome in known.outcomes],
        "partner": None
        if says is None
        else {
            "name": says.partner,
            "verdict": says.verdict,
            "said": says.said,
            "has": _told(known, personal_data),
        },
    }
    del told["age_s"]
    return json.loads(json.dumps(told, default=as_text))


def _would(choice: Choice) -> str:
    words, why = plan_words(choice)
    return f"would be {words}: {why}" if choice.does != "cannot" else f"is not possible: {why}"


def _fact(known: Known, catalog: Mapping[str, Topic], personal_data: bool) -> dict[str, Any]:
    """What the fact says, without what is empty; its account first."""
    if known.fact is None:
        return {}
    record = known.fact.as_record()
    told = record if personal_data else masked(catalog[known.fact.TOPIC].schema, record)
    if known.parked.unresolved:
        told["account"] = NO_ACCOUNT
    if record.get("candidates") and not personal_data:
        told["candidates"] = [mask_account(candidate) for candidate in record["candidates"]]
    first = {"account": told.pop("account")}
    for name in ("biller", "content"):
        del told[name]  # said already, and of no use to a person
    return first | {name: value for name, value in told.items() if value not in (None, "", (), [])}


def _told(known: Known, personal_data: bool) -> dict[str, object]:
    """What the partner has, by name."""
    says = known.says
    if says is None:
        return {}
    account = {"account": account_of(says.account, personal_data)} if says.account else {}
    return account | {name: value for name, value in says.told.items() if value is not None}


def _outcome(outcome: Outcome, parked: ParkedRecord, zone: tzinfo) -> str:
    more = [outcome.reason, outcome.detail, outcome.partner_reference]
    told = "; ".join(each for each in more if each)
    whose = "" if outcome.natural_id == parked.natural_id else f"{outcome.natural_id}: "
    state = f"{outcome.attempt}. {outcome.state} {moment(outcome.settled_at, zone)}"
    return f"{whose}{state}{f' ({told})' if told else ''}"


def _outcome_object(outcome: Outcome) -> dict[str, object]:
    return {
        "id": outcome.natural_id,
        "attempt": outcome.attempt,
        "state": outcome.state,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "never_sent": outcome.never_sent,
        "looked_up": outcome.looked_up,
        "reference": outcome.partner_reference,
        "settled_at": outcome.settled_at,
    }
