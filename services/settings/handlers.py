"""What happens to a setting: received, applied at IMT, asked for where in doubt, kept as enrollment."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from services.bus.accounts import AccountsView, Ambiguous, Match, normalise
from services.bus.accounts import Found as WhoseNumber
from services.bus.billers import Biller
from services.bus.identity import digest
from services.bus.lane import Answer, Found, NotFound, Parked, Posted, Rejected, Settled, Settlement
from services.events import (
    AccountCurrent,
    AppliedSetting,
    EnrollmentCurrent,
    NumberKind,
    Resolution,
    SettingChanged,
    SettingOutcome,
)
from services.settings.change import Change

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AtImt(Protocol):
    """A setting as IMT has it, with the change that made it so."""

    @property
    def value(self) -> bool: ...
    @property
    def change_id(self) -> str | None: ...
    @property
    def reference(self) -> str | None: ...


class Numbered(Protocol):
    """What a change, or the fact made of it, names the account by."""

    @property
    def number(self) -> str: ...
    @property
    def number_kind(self) -> NumberKind: ...


class Imt(Protocol):
    """What the handlers need of IMT's Settings; each call raises services.bus.partner's errors."""

    async def set_indicator(self, setting: SettingChanged, number: str) -> Posted | Rejected: ...
    async def read_indicator(self, setting: SettingChanged, number: str) -> AtImt | None: ...
    def patience_s(self, biller: str) -> float: ...


def receive_setting(change: Change, biller: Biller, accounts: AccountsView, at: datetime) -> SettingChanged:
    """The fact of a change, with its account and IMT's own number resolved once and for all."""
    whose = find_account(change, biller, accounts)
    account = whose.account if isinstance(whose, Match) else f"?{change.change_id}/{change.indicator}"
    return SettingChanged(
        biller=biller.slug,
        account=account,
        change_id=change.change_id,
        number=change.number,
        number_kind=change.number_kind,
        imt_number=number_at_imt(change, account, biller, accounts) if isinstance(whose, Match) else None,
        indicator=change.indicator,
        value=change.value,
        changed_at=change.changed_at,
        cause=change.cause,
        resolution=_resolution(whose),
        candidates=whose.candidates if isinstance(whose, Ambiguous) else (),
        content=change.content,
        received_at=at,
    )


def spread_setting(
    change: Change, event: SettingChanged, account: AccountCurrent | None, now: EnrollmentCurrent | None
) -> list[SettingChanged]:
    """The same for each other number of the account: its own, its policies, and where the opposite stands.

    What is on its way to IMT, or was set there by somebody else, is not known here; the value is absolute and
    harmless where it stands already. The ids come from the number, so that a repeat makes the same changes.
    """
    if not change.everywhere or account is None:
        return []
    applied = now.applied if now is not None else ()
    stands = [s.number for s in applied if s.indicator == change.indicator and s.value != change.value]
    numbers = dict.fromkeys((account.account, *account.policies, *stands))
    return [_on(number, change, event) for number in numbers if number != event.imt_number]


def _on(number: str, change: Change, event: SettingChanged) -> SettingChanged:
    """The event for another number of the same account, as IMT writes it."""
    kind: NumberKind = "account" if number == event.account else "policy"
    other = replace(
        change, change_id=f"{change.change_id}.{digest(number)[:8]}", number=number, number_kind=kind
    )
    return replace(
        event,
        change_id=other.change_id,
        number=number,
        number_kind=kind,
        imt_number=number,
        content=other.content,
    )


def find_account(change: Numbered, biller: Biller, accounts: AccountsView) -> WhoseNumber:
    """The account that a number, as sent, means."""
    if change.number_kind == "policy":
        return accounts.by_policy(biller.slug, change.number)
    return accounts.find_typed(biller, change.number)


def _resolution(whose: WhoseNumber) -> Resolution:
    if isinstance(whose, Match):
        return "matched"
    return "ambiguous" if isinstance(whose, Ambiguous) else "unknown"


@dataclass(frozen=True, slots=True)
class _PolicyRule:
    """How policy numbers are matched, whatever the biller's rule for accounts."""

    strip_leading_zeros: bool = True


def number_at_imt(change: Numbered, account: str, biller: Biller, accounts: AccountsView) -> str:
    """The number as IMT writes it: the account's, or that of the policy which was named."""
    known = accounts.by_account(biller.slug, account)
    if change.number_kind == "account" or known is None:
        return account
    rule = _PolicyRule()
    wanted = normalise(change.number, rule)
    return next((policy for policy in known.policies if normalise(policy, rule) == wanted), change.number)


async def apply_setting(setting: SettingChanged, imt: Imt, billers: Container[str]) -> Settlement:
    """Brings the T/F indicator to the account or policy number at IMT."""
    if setting.biller not in billers:
        return Parked("unknown_biller", "no biller's file names this biller", True)
    number = setting.imt_number
    if number is None:
        return unresolved(setting)
    if setting.indicator == "account_link":
        return Posted(detail="recorded; a link is IC's own and nothing of it goes to IMT")
    return await imt.set_indicator(setting, number)


def unresolved(setting: SettingChanged) -> Parked:
    """A number that means no account, or several, is for a person."""
    kind = setting.number_kind
    if setting.resolution == "ambiguous":
        return Parked(f"{kind}_ambiguous", f"{len(setting.candidates)} accounts match the number given", True)
    return Parked(f"{kind}_unknown", f"no account matches the {kind} number given", True)


async def find_setting(setting: SettingChanged, imt: Imt, billers: Container[str]) -> Answer:
    """Asks IMT for the indicator; found only where IMT names this very change as the one that set it.

    An equal value alone proves nothing: a request that hung may still come after it. Not found makes the
    lane wait until none can, and then send the value again, which is absolute.
    """
    if setting.imt_number is None or setting.biller not in billers:
        return NotFound()
    if setting.indicator == "account_link":
        return Found()
    there = await imt.read_indicator(setting, setting.imt_number)
    if there is not None and there.value == setting.value and there.change_id == setting.change_id:
        return Found(there.reference)
    return NotFound()


def patience_with_imt(setting: SettingChanged, imt: Imt, billers: Container[str]) -> float:
    """Seconds for which IMT may still act on a request that was given up."""
    sent = setting.imt_number is not None and setting.indicator != "account_link"
    return imt.patience_s(setting.biller) if sent and setting.biller in billers else 0.0


def order_setting(setting: SettingChanged) -> tuple[str, str] | None:
    """What a newer value replaces, and how new this one is: by IC's instant and id, both assumed.

    A change without an instant counts from when the intake took it; such changes of one millisecond keep
    the order of the topic.
    """
    if setting.imt_number is None:
        return None
    scope = f"{setting.account}|{setting.imt_number}|{setting.indicator}"
    if setting.changed_at is None:
        return scope, f"{_millis(setting.received_at):015d}"
    return scope, f"{_millis(setting.changed_at):015d}/{setting.change_id}"


def _millis(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def record_outcome(setting: SettingChanged, settled: Settled) -> SettingOutcome:
    return SettingOutcome(
        **settled.core(setting),
        number=setting.number,
        imt_number=setting.imt_number,
        indicator=setting.indicator,
        value=setting.value,
        changed_at=setting.changed_at,
    )


def fold_enrollment(now: EnrollmentCurrent | None, outcome: SettingOutcome) -> EnrollmentCurrent | None:
    """The account's enrollment after an outcome; None where it changes nothing."""
    if outcome.state != "posted" or outcome.imt_number is None or outcome.rank is None:
        return None
    place = (outcome.imt_number, outcome.indicator)
    applied = {(each.number, each.indicator): each for each in (now.applied if now else ())}
    if place in applied and outcome.rank < applied[place].rank:
        return None
    applied[place] = AppliedSetting(
        number=outcome.imt_number, indicator=outcome.indicator, value=outcome.value, rank=outcome.rank
    )
    return EnrollmentCurrent(
        biller=outcome.biller,
        account=outcome.account,
        autopay=_newest(applied.values(), "autopay"),
        paperless=_newest(applied.values(), "paperless"),
        linked=_newest(applied.values(), "account_link"),
        applied=tuple(applied[key] for key in sorted(applied)),
        updated_at=max(now.updated_at, outcome.settled_at) if now else outcome.settled_at,
    )


def _newest(applied: Iterable[AppliedSetting], indicator: str) -> bool | None:
    """The account's value of an indicator: the one last set, on whichever of its numbers."""
    of_it = [each for each in applied if each.indicator == indicator]
    return max(of_it, key=lambda each: each.rank).value if of_it else None
