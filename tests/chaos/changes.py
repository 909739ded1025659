"""Changes of settings, which come in any order: each once or superseded, and the newest stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from deploy.local.day.facts import Id
from tests.chaos.facts import Change, Effect
from tests.chaos.verdict import Book


def judge_changes(book: Book) -> None:
    """Every change took effect once or is superseded, and the newest of each indicator stands last."""
    changes = {(change.biller, change.id): change for change in book.facts.changes}
    applied: dict[Id, list[Effect]] = defaultdict(list)
    standing: dict[tuple[str, str, str], Change] = {}
    for row in sorted(book.facts.settings, key=lambda row: row.seq):
        applied[row.biller, row.id].append(row)
        change = changes.get((row.biller, row.id))
        if change is None:
            book.verdict.problems.append(f"unsaid: setting {row.biller} {row.id} is applied, nobody sent it")
            continue
        scope = (row.biller, row.account, row.indicator)
        if scope in standing and standing[scope].instant > change.instant:
            book.verdict.settings["disorder"] += 1
            book.blame("disorder", change, f"was applied after the newer {standing[scope].id}", row.at)
        else:
            standing[scope] = change
    for change in book.facts.changes:
        _judge_change(book, change, applied[change.biller, change.id])
    for problem in _not_newest(book, standing):
        book.verdict.problems.append(problem)


def _judge_change(book: Book, change: Change, rows: list[Effect]) -> None:
    count = book.verdict.settings
    if change.accepted is None:
        book.blame("never accepted", change, f"was not taken: {change.refused or change.tries}", change.sent)
        return
    count["accepted"] += 1
    outcome = book.outcomes.get(("settings", (change.biller, change.id)))
    state = outcome.state if outcome else "nowhere"
    if rows:
        count["in ledger"] += 1
        count["doubled"] += len(rows) - 1
        if len(rows) > 1:
            book.blame("doubled", change, f"was applied {len(rows)} times", rows[1].at)
    elif state == "superseded":
        count["superseded"] += 1
    else:
        count["parked" if state == "parked" else "lost"] += 1
        book.blame("lost", change, f"was not applied: {state}")


def _not_newest(book: Book, standing: dict[tuple[str, str, str], Change]) -> Iterator[str]:
    newest: dict[tuple[str, str, str], Change] = {}
    for change in book.facts.changes:
        scope = (change.biller, change.account, change.indicator)
        if change.accepted is not None and (scope not in newest or change.instant > newest[scope].instant):
            newest[scope] = change
    for scope, change in newest.items():
        stands = standing.get(scope)
        if stands is not change:
            yield (
                f"settings: {change.biller} {change.account} {change.indicator} ends as"
                f" {stands.id if stands else 'never set'}, not as {change.id}"
            )
