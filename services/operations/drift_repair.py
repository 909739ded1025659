"""IMT gets again what it was told last: the change's own record, through the lane, where its value differs.

Nothing is sent from here. The record goes to `.replay` as a recheck: the settings service asks IMT first, and
leaves a value alone that a newer change has replaced meanwhile.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial

from services.bus.partitioning import place_of
from services.bus.partner import PartnerError
from services.bus.replayed import Act
from services.events import SettingChanged, SettingOutcome
from services.operations.drift import BEGINNING, Sides, Told, patiently
from services.operations.drift_book import Resend
from services.operations.events_of import events_of
from services.operations.reemitting import Coordinates, Reemitter, coordinates_of
from services.operations.topic_reader import Offsets, TopicReader

RECHECK = Act("recheck")
BEYOND_PATIENCE_S = 30.0
"""How long outcomes are waited for once the lane believes IMT, and a second more for each EACH_S."""
EACH_S = 20
GONE = "the change is older than the topic keeps it"
UNRESOLVED = "its account was not known when it came; set the value again at InvoiceCloud"


async def find_records(sides: Sides, told: Told) -> list[Resend]:
    """What would be sent again, each with where its record stands, if it still does."""
    with TopicReader(sides.place, SettingOutcome.TOPIC, sides.clock) as reader:
        ends = reader.ends()
        keys = (f"{sides.biller.slug}/{account}".encode() for account in sides.book.accounts_at_imt())
        numbers = {place_of(key, len(ends)) for key in keys}
        begins = {n: b for n, b in reader.offsets_at(BEGINNING, ends).items() if n in numbers}
        total, done = sum(ends[n] - begin for n, begin in begins.items()), 0

        def read(more: int) -> None:
            nonlocal done
            done += more
            told(done, total)

        reader.read(begins, ends)
        async for _, event in events_of(reader, sides.codec, sides.ours, read):
            if isinstance(event, SettingOutcome) and event.state == "posted" and event.scope and event.rank:
                origin = event.origin_partition, event.origin_offset
                sides.book.applied_by(event.scope, event.rank, event.natural_id, event.attempt, origin)
    return sides.book.to_resend()


async def resend(sides: Sides, wanted: Sequence[Resend], told: Told) -> None:
    """Sends the records again, waits for what becomes of them, and asks IMT once more.

    Every result is in the book: `repaired`, or why not. Raises Unreachable.
    """
    with TopicReader(sides.place, SettingOutcome.TOPIC, sides.clock) as outcomes:
        ends = outcomes.ends()
        sent = await _emit(sides, wanted, told)
        outcomes.read(ends)
        await _wait(sides, outcomes, sent)
    for each in sent:
        await _verify(sides, each)


async def _emit(sides: Sides, wanted: Sequence[Resend], told: Told) -> list[Resend]:
    """Those whose record could be sent again."""
    sent, run = [], f"drift-{uuid.uuid4().hex}"
    with (
        TopicReader(sides.place, SettingChanged.TOPIC, sides.clock) as reader,
        Reemitter(sides.place, SettingChanged.TOPIC, run, sides.clock) as writer,
    ):
        begins = reader.offsets_at(BEGINNING, reader.ends())
        for number, each in enumerate(wanted, 1):
            record = await _record(sides, reader, begins, each)
            if record is not None:
                writer.emit(*record)
                sent.append(each)
            told(number, len(wanted))
        writer.flush()
    return sent


async def _record(
    sides: Sides, reader: TopicReader, begins: Offsets, each: Resend
) -> tuple[bytes, bytes, Sequence[tuple[str, bytes | None]], Coordinates, Act] | None:
    """The change that was applied last, to be sent again; None where it cannot be, as the book then says."""
    if each.partition is None or each.offset is None or each.offset < begins[each.partition]:
        sides.book.ended(each, GONE)
        return None
    reader.read({each.partition: each.offset}, {each.partition: each.offset + 1})
    async for record, event in events_of(reader, sides.codec, sides.ours):
        if isinstance(event, SettingChanged) and event.imt_number == each.number:
            return record.key(), record.value(), record.headers() or (), coordinates_of(record), RECHECK
    sides.book.ended(each, UNRESOLVED)
    return None


async def _wait(sides: Sides, outcomes: TopicReader, sent: Sequence[Resend]) -> None:
    """Until each has an outcome, or as long as the settings service may need."""
    imt = sides.biller.imt
    limit_s = imt.deadline_s + imt.margin_s + BEYOND_PATIENCE_S + len(sent) / EACH_S
    deadline, left = sides.clock.monotonic() + limit_s, len(sent)

    def stopped() -> bool:
        return left == 0 or sides.clock.monotonic() > deadline

    async for _, event in events_of(outcomes, sides.codec, sides.ours, stopped=stopped):
        if isinstance(event, SettingOutcome):
            why = "" if event.state == "posted" else f": {event.reason or event.detail}"
            left -= sides.book.settled(event.natural_id, event.attempt, event.state + why)
        if stopped():
            return


async def _verify(sides: Sides, each: Resend) -> None:
    """Asks IMT: only its own word ends a drift."""
    told = sides.book.result(each)
    try:
        there = await patiently(sides, partial(sides.imt.read_all, sides.biller.slug, each.number))
    except PartnerError as error:
        sides.book.ended(each, f"{told or 'sent'}, and IMT cannot be asked: {error.reason}")
        return
    standing = there.get(each.indicator)
    if (standing.value if standing else False) == each.value:
        sides.book.ended(each, "repaired")
    elif told is None:
        sides.book.ended(each, "not settled yet: is the settings service up?")
    else:
        sides.book.ended(each, f"{told}, and IMT still has another value")
