"""What was promised, checked while it happens and at the end; knows the lane by its commits alone."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord, TopicPartition

from services.bus.partition import account_scope, biller_of
from services.bus.progress import Restored, decode_metadata
from services.events import PaymentOutcome, PaymentReceived
from tests.simulation.broker import LIVE, short
from tests.simulation.node import Site

PLANTED = frozenset({"retries_exhausted", "outage_of_this_one"})


@dataclass
class Accepted:
    """A payment as the client was told that it is taken.

    Attributes:
        conflicts: it has the id of an earlier one and other content.
        poison: nobody can decode it.
        repeats: the same fact was on the topic before.
    """

    record: ConsumerRecord
    payment: PaymentReceived | None
    conflicts: bool = False
    repeats: bool = False

    @property
    def fact(self) -> tuple[str, str, str]:
        assert self.payment is not None
        return self.payment.biller, self.payment.payment_guid, self.payment.content


@dataclass
class Judge:
    """`accepted` in the order of acceptance; `dismissed` are the facts that an operator wanted so."""

    site: Site
    accepted: list[Accepted] = field(default_factory=list)
    dismissed: set[tuple[str, str, str]] = field(default_factory=set)
    open: dict[TopicPartition, dict[int, Accepted]] = field(default_factory=lambda: defaultdict(dict))

    def accept(self, accepted: Accepted) -> None:
        self.accepted.append(accepted)
        record = accepted.record
        self.open[TopicPartition(record.topic, record.partition)][record.offset] = accepted

    def finished(self, accepted: Accepted) -> bool:
        """Whether the topics say how it ended."""
        if accepted.payment is None:
            record = accepted.record
            topic = record.topic.removesuffix(".replay")
            return (topic, record.partition, record.offset) in self.site.outcomes.dead
        return accepted.fact in self.site.outcomes.settled

    # -- while it happens ------------------------------------------------------------------------------

    def committed(self, partition: TopicPartition) -> None:
        """Whoever took the partition over now would still come by every record that has not ended."""
        still_open = self.open[partition]
        if not still_open:
            return
        stored = Stored(self.site, partition)
        for offset, accepted in list(still_open.items()):
            if self.finished(accepted):
                del still_open[offset]
            elif stored.passed(accepted.record):
                self.site.world.broken(
                    f"the commits of {short(partition)} jump over {offset} ({accepted.record.value!r})"
                )

    def nothing_left(self) -> bool:
        """Whether all is done, and the commits say so."""
        return all(self.finished(accepted) for accepted in self.accepted) and all(
            Stored(self.site, partition).drained(log.end) for partition, log in self.site.brokers.logs.items()
        )

    def left(self) -> Iterator[str]:
        for accepted in self.accepted:
            if not self.finished(accepted):
                yield f"{accepted.record.topic} {accepted.record.offset} {accepted.record.value!r}"
        for partition, log in self.site.brokers.logs.items():
            if not Stored(self.site, partition).drained(log.end):
                commits = {
                    scope: commit
                    for (scope, p), commit in self.site.brokers.offsets.items()
                    if p == partition
                }
                yield f"{short(partition)} up to {log.end}: {commits}"

    # -- at the end ------------------------------------------------------------------------------------

    def end(self) -> None:
        for accepted in self.accepted:
            if accepted.payment is not None and not accepted.repeats:
                self._judge_one(accepted, accepted.payment)
        self._judge_order()

    def _judge_one(self, accepted: Accepted, payment: PaymentReceived) -> None:
        world, partner = self.site.world, self.site.partner
        effects = [
            e for e in partner.ledger[payment.biller, payment.payment_guid] if e.content == payment.content
        ]
        outcome = self.site.outcomes.settled.get(accepted.fact)
        if outcome is None:
            world.broken(f"{payment.payment_guid} has no outcome")
        elif accepted.conflicts:
            if effects:
                world.broken(f"{payment.payment_guid} with other content took effect")
        elif outcome.state == "posted":
            if len(effects) != 1:
                world.broken(f"{payment.payment_guid} is posted and took effect {len(effects)} times")
        elif outcome.state == "dismissed" and accepted.fact in self.dismissed:
            if len(effects) > 1:
                world.broken(f"{payment.payment_guid} is dismissed and took effect {len(effects)} times")
        elif not self._may_end_so(payment, outcome):
            world.broken(
                f"{payment.payment_guid} ended {outcome.state} ({outcome.reason}) for no planted reason"
            )
        elif effects and outcome.state == "rejected":
            world.broken(f"{payment.payment_guid} is rejected and took effect")

    def _may_end_so(self, payment: PaymentReceived, outcome: PaymentOutcome) -> bool:
        temper = self.site.partner.temper
        if outcome.state == "rejected":
            return payment.payment_guid in temper.refuses
        if outcome.state == "parked" and outcome.reason in PLANTED:
            return f"{payment.biller}/{payment.account}" in temper.ever_failed
        return outcome.state == "parked" and outcome.reason == "in_doubt" and not self.site.asks

    def _judge_order(self) -> None:
        """First effects of an account come in the order of its first records on the live topic."""
        first_at: dict[tuple[str, str], float] = {}
        for effect in self.site.partner.effects:
            first_at.setdefault((effect.biller, effect.guid), effect.at)
        latest: dict[tuple[str, str], tuple[float, str]] = {}
        for accepted in self.accepted:
            payment = accepted.payment
            if payment is None or accepted.repeats or accepted.conflicts or accepted.record.topic != LIVE:
                continue
            at = first_at.get((payment.biller, payment.payment_guid))
            if at is None or accepted.fact in self.site.outcomes.parked:
                continue  # a parked one has left the order
            account = payment.biller, payment.account
            before, guid = latest.get(account, (0.0, ""))
            if at < before:
                self.site.world.broken(f"{payment.payment_guid} of {account} took effect before {guid}")
            latest[account] = at, payment.payment_guid


class Stored:
    """What the commits of one partition say to whoever takes it over, read as the design has it."""

    def __init__(self, site: Site, partition: TopicPartition) -> None:
        end = site.brokers.logs[partition].end
        self._cursors: dict[str, tuple[int, Restored]] = {}
        self._main = (-1, Restored(0))
        for (scope, where), (offset, text) in site.brokers.offsets.items():
            if where == partition:
                read = offset, decode_metadata(text, offset, end)
                if scope:
                    self._cursors[scope] = read
                else:
                    self._main = read

    def passed(self, record: ConsumerRecord) -> bool:
        """Whether nobody would deliver it any more."""
        at: int = record.offset
        for scope in (account_scope(record.key), biller_of(record.key)):
            if scope not in self._cursors:
                continue
            offset, cursor = self._cursors[scope]
            if cursor.generation < self._main[1].generation:
                return at < offset
            if cursor.until is None or at < cursor.until:
                return at < offset or at in cursor.done
        offset, main = self._main
        return at < offset or at in main.done

    def drained(self, end: int) -> bool:
        return self._main[0] == end and all(
            cursor.until is not None and offset >= cursor.until
            for offset, cursor in self._cursors.values()
            if cursor.generation >= self._main[1].generation
        )
