"""How parked deliveries look on a terminal, and as JSON; accounts hidden unless they may be seen."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.bus.log import mask_account
from services.cli.records import as_text, readable
from services.operations.parked_records import ParkedRecord, Tally

if TYPE_CHECKING:
    from services.operations.parked_acts import Came, Wish
    from services.operations.parked_plan import Choice

WIDE = 120
"""From so many columns on each thing has one of its own."""
NO_ACCOUNT = "account not known"


def print_line(told: Mapping[str, object]) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(told, default=as_text, ensure_ascii=False) + "\n")


def show_list(
    found: Sequence[ParkedRecord],
    tallies: Sequence[Tally],
    now: datetime,
    zone: tzinfo,
    *,
    personal_data: bool,
) -> None:
    """What is parked, and the total of all that match."""
    if not tallies:
        print("Nothing is parked.")
        return
    screen = console()
    wide = screen.width >= WIDE
    more = ["kind", "account", "since", "reason"] if wide else []
    table = _table(["age", "biller", "id", *more, "amount"])
    for column in table.columns:
        column.no_wrap, column.overflow = column.header not in ("id", "reason"), "fold"
    for each in found:
        account = account_of(each.account, personal_data)
        parts = [each.family, account, moment(each.settled_at, zone), each.reason]
        name = each.natural_id if wide else f"{each.natural_id}\n{each.family}, {account}, {each.reason}"
        cells = [age(now - each.settled_at), each.biller, name, *(parts if wide else []), _money(each.amount)]
        add_row(table, *cells)
    screen.print(table)
    count, amount = sum(t.count for t in tallies), sum((t.amount or Decimal(0) for t in tallies), Decimal(0))
    reasons: Counter[str] = Counter()
    for tally in tallies:
        reasons[tally.reason] += tally.count
    oldest = min(t.oldest for t in tallies)
    told = ", ".join(f"{number} {_plain(reason)}" for reason, number in reasons.most_common())
    print(f"{count} parked, payments of {amount:,.2f} USD; {told}.")
    print(f"The oldest since {moment(oldest, zone)} ({age(now - oldest)}); times in {zone}.")


def as_object(parked: ParkedRecord, now: datetime, *, personal_data: bool) -> dict[str, object]:
    """As JSON."""
    return {
        "id": parked.natural_id,
        "kind": parked.family,
        "biller": parked.biller,
        "account": _account_or_none(parked.account, personal_data),
        "amount": parked.amount,
        "tender": parked.tender,
        "product": parked.product,
        "batch_day": parked.batch_day,
        "reason": parked.reason,
        "detail": parked.detail,
        "attempt": parked.attempt,
        "never_sent": parked.never_sent,
        "parked_at": parked.settled_at,
        "age_s": round((now - parked.settled_at).total_seconds()),
        "event_id": parked.event_id,
        "topic": parked.topic,
        "partition": parked.partition,
        "offset": parked.offset,
    }


def show_plan(choices: Sequence[Choice], wish: Wish) -> None:
    """What would be done with each."""
    if not choices:
        print("Nothing that is parked matches.")
        return
    table = _table(["biller", "id", "reason", "would be", "why"])
    table.columns[1].no_wrap = True
    for each in choices:
        add_row(table, each.parked.biller, each.parked.natural_id, each.parked.reason, *plan_words(each))
    screen = console()
    screen.print(table)
    counts = Counter(plan_words(each)[0] for each in choices)
    told = ", ".join(f"{number} would be {words}" for words, number in counts.most_common())
    print(f"Of {len(choices)} parked, {told}.")
    if any(each.does != "cannot" for each in choices):
        print(f'Nothing was done; to {wish}, add --yes --reason "...".')


def plan_object(choice: Choice) -> dict[str, object]:
    """As JSON."""
    return _chosen_object(choice) | {"would": choice.does, "why": choice.why}


def show_came(came: Sequence[Came], wish: Wish) -> None:
    """What came of each."""
    if not came:
        print("Nothing that is parked matches.")
        return
    table = _table(["biller", "id", "was parked as", "now", "why"])
    table.columns[1].no_wrap = True
    for each in came:
        parked = each.choice.parked
        add_row(table, parked.biller, parked.natural_id, parked.reason, each.result, each.why)
    console().print(table)
    counts = Counter(each.result for each in came)
    print(f"{wish}: {len(came)} = {' + '.join(f'{n} {result}' for result, n in counts.most_common())}.")
    if counts["not answered yet"]:
        print("What is not answered is on the bus: the service does it as soon as it can; look again later.")


def came_object(came: Came) -> dict[str, object]:
    """As JSON."""
    outcome = came.outcome
    return _chosen_object(came.choice) | {
        "result": came.result,
        "why": came.why or None,
        "new_attempt": outcome.attempt if outcome else None,
        "reference": outcome.partner_reference if outcome else None,
    }


def account_of(account: str, personal_data: bool) -> str:
    """For a person."""
    return _account_or_none(account, personal_data) or NO_ACCOUNT


def age(since: timedelta) -> str:
    """In at most two units: `3 d 4 h`, `12 min`."""
    seconds = max(0, int(since.total_seconds()))
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _account_or_none(account: str, personal_data: bool) -> str | None:
    if account.startswith("?"):
        return None
    return account if personal_data else mask_account(account)


def _chosen_object(choice: Choice) -> dict[str, object]:
    parked, resolved = choice.parked, choice.resolved
    return {
        "id": parked.natural_id,
        "kind": parked.family,
        "biller": parked.biller,
        "reason": parked.reason,
        "attempt": parked.attempt,
        "amount": parked.amount,
        "to_account": mask_account(resolved.account) if resolved else None,
    }


def plan_words(choice: Choice) -> tuple[str, str]:
    """What would be done with one, and why; an account is hidden."""
    to = f", {mask_account(choice.resolved.account)}" if choice.resolved else ""
    words = {
        "deliver": "delivered",
        "ask first": "asked first",
        "dismiss": "dismissed",
        "cannot": "left as it is",
    }
    return words[choice.does], choice.why + to


def moment(instant: datetime, zone: tzinfo) -> str:
    """With its offset, to the second."""
    return instant.astimezone(zone).isoformat(" ", "seconds").replace("+00:00", "Z")


def _money(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:,.2f}"


def _plain(text: str) -> str:
    """Nothing in it that a terminal would obey; line ends of ours stay."""
    lines = text.split("\n")
    return "\n".join(line if line.isprintable() else readable(line, UTC)[1:-1] for line in lines)


def add_row(table: Table, *cells: str) -> None:
    """Cells of any text."""
    table.add_row(*(escape(_plain(cell)) for cell in cells))


def _table(columns: Sequence[str]) -> Table:
    return Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold")


def console() -> Console:
    """As wide as the terminal, or as it needs where stdout is none."""
    return Console(width=None if sys.stdout.isatty() else 240, highlight=False)
