"""What would be done with each parked delivery: delivered, asked for first, dismissed, or why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from services.bus.biller import Biller
from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.identity import Delivered
from services.bus.place import Place, Unreachable
from services.bus.registry import Registry, RegistryAway
from services.bus.settings import Settings
from services.events import BY_TOPIC, AccountCurrent, InvoiceIssued, PaymentReceived, SettingChanged
from services.operations.parked_accounts import NoAccount, Unresolved, Wanted, read_accounts, resolve
from services.operations.parked_facts import FactReader
from services.operations.parked_partner import known_biller
from services.operations.parked_reasons import meaning_of
from services.operations.parked_records import ParkedRecord
from services.operations.parked_view import Told

Does = Literal["deliver", "ask first", "dismiss", "cannot"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is to be done with one.

    Attributes:
        why: in words, without an account number.
        record: its fact's record on the live topic; None where the log no longer has it.
        fact: that record's event.
        resolved: the same with the account that was found, of one that had none.
    """

    parked: ParkedRecord
    does: Does
    why: str
    record: Any = None
    fact: Delivered | None = None
    resolved: Unresolved | None = None


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where a plan is read from."""

    settings: Settings
    catalog: Mapping[str, Topic]
    place: Place
    registry: Registry
    clock: Clock


async def plan_retries(
    sources: Sources, parked: Sequence[ParkedRecord], account: str, told: Told
) -> list[Choice]:
    """What a retry does with each; `account` is the one for those whose account is not known ('' for none).

    Raises Unreachable, and KafkaException for what the broker refuses.
    """
    choices = await _with_facts(sources, parked, told)
    billers = {slug: known_biller(sources.settings, slug) for slug in {each.biller for each in parked}}
    lost = [fact for choice in choices if (fact := _without_account(choice)) is not None]
    accounts = None
    if lost:
        topic, wanted = sources.catalog[AccountCurrent.TOPIC], Wanted(lost, account)
        accounts = await read_accounts(sources.place, sources.registry, topic, sources.clock, wanted, told)
    planned = []
    for choice in choices:
        biller = billers[choice.parked.biller]
        fact = _without_account(choice)
        found: Unresolved | NoAccount | None = None
        if fact is not None and accounts is not None and biller is not None:
            found = resolve(fact, biller, accounts, account)
        planned.append(retry_of(choice, biller, found, account))
    return planned


async def plan_dismissals(sources: Sources, parked: Sequence[ParkedRecord], told: Told) -> list[Choice]:
    """The same for a dismissal, which the lane writes without the partner."""
    choices = await _with_facts(sources, parked, told)
    return [
        choice if choice.record is None else replace(choice, does="dismiss", why="nothing is sent")
        for choice in choices
    ]


def retry_of(
    choice: Choice, biller: Biller | None, found: Unresolved | NoAccount | None, account: str
) -> Choice:
    """What a retry does with one; `found` is what came of looking for its account, where it has none."""
    parked = choice.parked
    if choice.record is None or choice.fact is None:
        return choice
    if meaning_of(parked.reason).retry == "of no use":
        conflict = parked.reason == "conflict"
        why = "a conflict is never retried" if conflict else "it would be parked again"
        return replace(choice, does="cannot", why=f"{why}: see what it is, and dismiss it")
    if biller is None:
        return replace(choice, does="cannot", why="no biller's file names its biller here")
    if isinstance(found, NoAccount):
        return replace(choice, does="cannot", why=found.why)
    if found is not None:
        return replace(choice, does="deliver", why="its account was found", resolved=found)
    if account:
        return replace(choice, does="cannot", why="its account is known: leave out --account")
    if parked.never_sent:
        return replace(choice, does="deliver", why="no request for it ever left")
    if parked.family == "payment" and not biller.imt.looks_up_payments:
        why = "this IMT cannot be asked whether it has it: look there by hand, and dismiss it"
        return replace(choice, does="cannot", why=why)
    return replace(choice, does="ask first", why="sent only if the partner does not have it")


def _without_account(choice: Choice) -> Unresolved | None:
    """The fact of one that a retry helps once its account is found."""
    fact = choice.fact
    if not choice.parked.unresolved or meaning_of(choice.parked.reason).retry == "of no use":
        return None
    return fact if isinstance(fact, PaymentReceived | SettingChanged) else None


async def _with_facts(sources: Sources, parked: Sequence[ParkedRecord], told: Told) -> list[Choice]:
    """Each with its fact, in the order given."""
    schemas = {
        name: sources.catalog[name].schema for name in {each.topic for each in parked} & BY_TOPIC.keys()
    }
    codec = Codec(schemas, sources.registry)
    found: dict[tuple[str, int, int], tuple[Any, Delivered | None]] = {}
    with FactReader(sources.place, sources.clock) as reader:
        for done, (at, record) in enumerate(reader.read(_places(parked))):
            found[at] = record, await _fact(codec, at[0], record)
            told(done + 1, len(parked))
    choices = []
    for each in parked:
        record, fact = found[each.topic, each.partition, each.offset]
        why = "the log no longer has its fact" if record is None else "its fact cannot be read"
        if fact is not None and (fact.content != each.content or fact.biller != each.biller):
            fact, why = None, "another fact stands where its own stood: the topic was made anew"
        choices.append(
            Choice(parked=each, does="cannot", why=why, record=record if fact else None, fact=fact)
        )
    return choices


def _places(parked: Iterable[ParkedRecord]) -> list[tuple[str, int, int]]:
    return [(each.topic, each.partition, each.offset) for each in parked]


async def _fact(codec: Codec, topic: str, record: Any) -> Delivered | None:
    if record is None:
        return None
    try:
        event = await codec.decode(topic, record.value())
    except Undecodable:
        return None
    except RegistryAway as error:
        raise Unreachable(f"The schema registry does not answer: {error}") from None
    return event if isinstance(event, PaymentReceived | SettingChanged | InvoiceIssued) else None
