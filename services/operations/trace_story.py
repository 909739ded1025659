"""Which of an account's records belong to what is traced."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from services.bus.identity import Delivered, Outcome, delivery_id, natural_id
from services.bus.replayed import RUN
from services.events import (
    BalanceChanged,
    BalanceCurrent,
    BatchClosed,
    BillLinked,
    EnrollmentCurrent,
    FileReceived,
    InvoiceIssued,
    InvoiceOutcome,
    OperationAudited,
    PaymentOutcome,
    PaymentReceived,
    SettingChanged,
    SettingOutcome,
)
from services.operations.trace_find import Subject
from services.operations.trace_log import Seen

CURRENT = (BalanceCurrent, EnrollmentCurrent)
Name = tuple[str, str]
"""What something is called: ("payment", guid), ("invoice", number) or ("setting", change id)."""


@dataclass
class Ties:
    """By what one record is tied to the others of a story."""

    names: set[Name] = field(default_factory=set)
    traces: set[str] = field(default_factory=set)
    origins: set[tuple[str, int, int]] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)

    def words(self) -> set[str]:
        """What a biller's own records (audit, files) would name."""
        return {text for _, text in self.names} | self.runs | self.files


def names_of(event: object) -> Iterator[Name]:
    """What an event is about."""
    if isinstance(event, PaymentReceived):
        yield "payment", event.payment_guid
    elif isinstance(event, PaymentOutcome):
        yield "payment", event.natural_id.partition("#")[0]
    elif isinstance(event, InvoiceIssued | InvoiceOutcome | BillLinked):
        yield "invoice", event.invoice_number
    elif isinstance(event, SettingChanged):
        yield "setting", event.change_id
    elif isinstance(event, SettingOutcome):
        yield "setting", event.natural_id.rpartition("/")[0]


def belongs(subject: Subject, records: Collection[Seen]) -> tuple[list[Seen], Ties]:
    """The records of the story, and what ties them together."""
    if subject.kind == "account":
        chosen = list(_newest_current(records))
        return chosen, _ties(chosen)
    first = [seen for seen in records if _is_direct(subject, seen)]
    ties = _ties(first)
    chosen = [
        seen
        for seen in records
        if _is_direct(subject, seen)
        or ties.names.intersection(names_of(seen.event))
        or (isinstance(seen.event, BalanceChanged | BillLinked) and seen.trace_id in ties.traces)
        or (seen.dead and _origin(seen) in ties.origins)
    ]
    return chosen, _ties(chosen)


def concerns(seen: Seen, ties: Ties, payments: Iterable[Seen]) -> bool:
    """Whether a record of the biller as a whole (batch, file, audit) is part of the story."""
    event = seen.event
    if isinstance(event, BatchClosed):
        return any(_counted(event, payment) for payment in payments)
    if isinstance(event, FileReceived):
        return event.file_id in ties.files
    if isinstance(event, OperationAudited):
        return any(word in text for word in ties.words() for text in (event.target, event.result))
    return False


def newest_outcome(fact: Delivered, records: Iterable[Seen]) -> Seen | None:
    """What became of a fact last: by attempt, a final state before a parked one of the same attempt."""
    own = {delivery_id(fact), delivery_id(fact, f"{natural_id(fact)}#{fact.content}")}
    outcomes = [
        seen
        for seen in records
        if isinstance(seen.event, Outcome)
        and delivery_id(seen.event) in own
        and seen.event.content in ("", fact.content)
    ]
    return max(outcomes, key=_rank, default=None)


def _rank(seen: Seen) -> tuple[int, bool, int]:
    event = seen.event
    assert isinstance(event, Outcome)
    return event.attempt, event.state != "parked", seen.hit.timestamp


def _is_direct(subject: Subject, seen: Seen) -> bool:
    if subject.kind == "trace":
        return seen.trace_id == subject.text
    if (subject.kind, subject.text) in names_of(seen.event):
        return True
    if subject.kind == "invoice" and isinstance(seen.event, PaymentReceived):
        return seen.event.invoice_number == subject.text
    return seen.dead and seen.hit.holds([subject.text.encode()])


def _ties(records: Iterable[Seen]) -> Ties:
    ties = Ties()
    for seen in records:
        ties.names.update(names_of(seen.event))
        if seen.trace_id:
            ties.traces.add(seen.trace_id)
        if not seen.dead and not seen.replayed:
            ties.origins.add((seen.hit.topic, seen.hit.partition, seen.hit.offset))
        if run := seen.headers.get(RUN):
            ties.runs.add(run)
        if isinstance(seen.event, InvoiceIssued):
            ties.files.add(seen.event.file_id)
    return ties


def _origin(seen: Seen) -> tuple[str, int, int] | None:
    headers = seen.headers
    try:
        where = int(headers["billbus_origin_partition"]), int(headers["billbus_origin_offset"])
    except (KeyError, ValueError):
        return None
    return (seen.live_topic, *where)


def _counted(batch: BatchClosed, payment: Seen) -> bool:
    """Whether the batch covers the place of a payment; one that was declined is in no total."""
    event, hit = payment.event, payment.hit
    return (
        isinstance(event, PaymentReceived)
        and event.approved
        and not payment.replayed
        and any(r.partition == hit.partition and r.begin <= hit.offset < r.end for r in batch.ranges)
    )


def _newest_current(records: Iterable[Seen]) -> Iterator[Seen]:
    """Of a compacted topic only how it stands now."""
    newest: dict[str, Seen] = {}
    for seen in records:
        if isinstance(seen.event, CURRENT):
            before = newest.get(seen.hit.topic)
            if before is None or before.hit.offset < seen.hit.offset:
                newest[seen.hit.topic] = seen
        else:
            yield seen
    yield from newest.values()
