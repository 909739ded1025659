"""What happens to a setting between IC and IMT, without either of them."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.bus.identity import natural_id
from services.bus.lane import Found, NotFound, Parked, Posted, Rejected, Settled, Settlement, Superseded
from services.events import EnrollmentCurrent, Indicator, SettingChanged, SettingOutcome
from services.settings.change import Change
from services.settings.handlers import (
    apply_setting,
    find_setting,
    fold_enrollment,
    order_setting,
    patience_with_imt,
    receive_setting,
    record_outcome,
)
from tests.unit.settings_sample import ACCOUNT, NOON, POLICY, account, accounts, acme, setting

BILLERS = frozenset({"acme"})


@dataclass(frozen=True)
class AtImt:
    value: bool
    change_id: str | None = None
    reference: str | None = "S-1"


@dataclass
class ImtInMemory:
    """IMT's indicators, and every request that sets one."""

    standing: AtImt | None = None
    sent: list[tuple[str, str, bool]] = field(default_factory=list)

    async def set_indicator(self, setting: SettingChanged, number: str) -> Posted | Rejected:
        self.sent.append((number, setting.indicator, setting.value))
        return Posted("S-9")

    async def read_indicator(self, setting: SettingChanged, number: str) -> AtImt | None:
        del setting, number
        return self.standing

    def patience_s(self, biller: str) -> float:
        del biller
        return 6.0


def change(**parts: Any) -> Change:
    return replace(
        Change(
            change_id="c-1",
            number="12345",
            number_kind="account",
            indicator="autopay",
            value=True,
            changed_at=NOON,
            cause=None,
        ),
        **parts,
    )


def outcome(of: SettingChanged, settlement: Settlement) -> SettingOutcome:
    scope, rank = order_setting(of) or (None, None)
    settled = Settled(
        settlement=settlement,
        event_id=uuid4(),
        natural_id=natural_id(of),
        attempt=1,
        looked_up=False,
        never_sent=False,
        scope=scope,
        rank=rank,
        topic=of.TOPIC,
        partition=0,
        offset=0,
        at=NOON,
    )
    return record_outcome(of, settled)


def folded(*posted: SettingChanged) -> EnrollmentCurrent | None:
    state: EnrollmentCurrent | None = None
    for each in posted:
        state = fold_enrollment(state, outcome(each, Posted())) or state
    return state


# -- received ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["12345", "0000012345", "123-45", " 12345"])
def test_an_account_is_found_as_typed_and_named_as_imt_has_it(typed: str) -> None:
    event = receive_setting(change(number=typed), acme(), accounts(), NOON)

    assert (event.account, event.imt_number, event.number) == (ACCOUNT, ACCOUNT, typed)
    assert event.resolution == "matched"


def test_a_policy_keeps_its_own_number_and_is_keyed_by_its_account() -> None:
    event = receive_setting(change(number="ho 77", number_kind="policy"), acme(), accounts(), NOON)
    exact = receive_setting(change(number="ho-0077", number_kind="policy"), acme(), accounts(), NOON)

    assert event.resolution == "unknown"  # HO77 is another number than HO0077
    assert (exact.account, exact.imt_number, exact.number) == (ACCOUNT, POLICY, "ho-0077")


def test_an_unknown_number_is_keyed_by_its_natural_id() -> None:
    event = receive_setting(change(number="999"), acme(), accounts(), NOON)

    assert (event.account, event.resolution, event.imt_number) == ("?c-1/autopay", "unknown", None)
    assert event.account == f"?{natural_id(event)}"


def test_an_ambiguous_number_names_its_candidates() -> None:
    shared = accounts(account(ACCOUNT, POLICY), account("0000054321", POLICY))
    event = receive_setting(change(number=POLICY, number_kind="policy"), acme(), shared, NOON)

    assert event.resolution == "ambiguous"
    assert set(event.candidates) == {ACCOUNT, "0000054321"}
    assert event.imt_number is None


def test_what_was_resolved_is_no_part_of_the_content() -> None:
    known = receive_setting(change(), acme(), accounts(), NOON)
    unknown = receive_setting(change(), acme(), accounts(account("0000099999")), NOON)

    assert known.content == unknown.content


# -- applied -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("indicator", ["autopay", "paperless"])
async def test_an_indicator_goes_to_imts_number(indicator: Indicator, value: bool) -> None:
    imt = ImtInMemory()
    event = setting(indicator=indicator, value=value, imt_number=POLICY, number_kind="policy")

    assert await apply_setting(event, imt, BILLERS) == Posted("S-9")
    assert imt.sent == [(POLICY, indicator, value)]


@pytest.mark.parametrize(
    ("resolution", "kind", "reason"),
    [
        ("unknown", "account", "account_unknown"),
        ("unknown", "policy", "policy_unknown"),
        ("ambiguous", "policy", "policy_ambiguous"),
    ],
)
async def test_a_number_that_means_no_one_account_is_parked_unsent(
    resolution: Any, kind: Any, reason: str
) -> None:
    imt = ImtInMemory()
    event = setting(resolution=resolution, number_kind=kind, imt_number=None, account="?c-1/autopay")
    settlement = await apply_setting(event, imt, BILLERS)

    assert isinstance(settlement, Parked)
    assert (settlement.reason, settlement.never_sent) == (reason, True)
    assert "12345" not in (settlement.detail or "")
    assert imt.sent == []
    assert order_setting(event) is None
    assert patience_with_imt(event, imt, BILLERS) == 0


async def test_a_link_is_recorded_and_nothing_of_it_is_sent() -> None:
    imt = ImtInMemory()
    event = setting(indicator="account_link")

    assert isinstance(await apply_setting(event, imt, BILLERS), Posted)
    assert await find_setting(event, imt, BILLERS) == Found()
    assert imt.sent == []
    assert patience_with_imt(event, imt, BILLERS) == 0


# -- in doubt ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("standing", "answer"),
    [
        (AtImt(value=True, change_id="c-1"), Found("S-1")),
        (AtImt(value=False, change_id="c-1"), NotFound()),
        (AtImt(value=True, change_id="c-0"), NotFound()),
        (AtImt(value=True), NotFound()),
        (None, NotFound()),
    ],
)
async def test_found_is_this_change_and_never_just_an_equal_value(
    standing: AtImt | None, answer: Found | NotFound
) -> None:
    assert await find_setting(setting(), ImtInMemory(standing), BILLERS) == answer


def test_imt_is_given_its_own_time_to_act() -> None:
    assert patience_with_imt(setting(), ImtInMemory(), BILLERS) == 6.0


# -- ordered -------------------------------------------------------------------------------------------


def rank(event: SettingChanged) -> str:
    ordered = order_setting(event)
    assert ordered is not None
    return ordered[1]


def scope(event: SettingChanged) -> str:
    ordered = order_setting(event)
    assert ordered is not None
    return ordered[0]


def test_a_newer_change_ranks_above_an_older_one_whatever_its_id() -> None:
    older = setting(change_id="z")
    newer = setting(change_id="a", changed_at=NOON + timedelta(milliseconds=1))

    assert rank(older) < rank(newer)
    assert scope(older) == scope(newer)


def test_changes_of_the_same_instant_are_ordered_by_id() -> None:
    assert rank(setting(change_id="c-1")) < rank(setting(change_id="c-2"))


def test_changes_without_an_instant_keep_the_order_of_the_topic_within_a_millisecond() -> None:
    first, second = setting(changed_at=None, change_id="z"), setting(changed_at=None, change_id="a")
    later = setting(changed_at=None, received_at=NOON + timedelta(milliseconds=1))

    assert rank(first) == rank(second)  # neither supersedes the other
    assert rank(second) < rank(later)


def test_an_autopay_change_never_replaces_a_paperless_one_nor_another_number() -> None:
    scopes = {
        scope(setting()),
        scope(setting(indicator="paperless")),
        scope(setting(imt_number=POLICY)),
        scope(setting(account="0000054321")),
    }

    assert len(scopes) == 4


# -- kept as enrollment --------------------------------------------------------------------------------


def test_a_posted_setting_becomes_the_enrollment() -> None:
    state = folded(setting(), setting(indicator="paperless", change_id="c-2", value=False))

    assert state is not None
    assert (state.autopay, state.paperless, state.linked) == (True, False, None)
    assert {(s.number, s.indicator, s.value) for s in state.applied} == {
        (ACCOUNT, "autopay", True),
        (ACCOUNT, "paperless", False),
    }


@pytest.mark.parametrize("settlement", [Rejected("unknown_number"), Parked("in_doubt"), Superseded()])
def test_only_what_is_posted_changes_the_enrollment(settlement: Settlement) -> None:
    assert fold_enrollment(None, outcome(setting(), settlement)) is None


def test_an_older_outcome_read_again_changes_nothing() -> None:
    newer = setting(change_id="c-2", value=False, changed_at=NOON + timedelta(minutes=1))
    state = folded(setting(), newer)

    assert state is not None
    assert state.autopay is False
    assert fold_enrollment(state, outcome(setting(), Posted())) is None
    assert fold_enrollment(state, outcome(newer, Posted())) == state


def test_a_late_paperless_change_survives_a_newer_autopay_one() -> None:
    autopay = setting(changed_at=NOON + timedelta(hours=1))
    paperless = setting(indicator="paperless", change_id="c-2")
    state = folded(autopay, paperless)

    assert state is not None
    assert (state.autopay, state.paperless) == (True, True)


def test_the_account_has_what_was_last_set_on_any_of_its_numbers() -> None:
    on_policy = setting(imt_number=POLICY, changed_at=NOON + timedelta(hours=1), value=False)
    state = folded(on_policy, setting())

    assert state is not None
    assert state.autopay is False
    assert len(state.applied) == 2


def test_unlinking_ends_autopay() -> None:
    later = NOON + timedelta(hours=1)
    state = folded(
        setting(indicator="account_link", change_id="c-0"),
        setting(),
        setting(indicator="account_link", change_id="c-2", value=False, changed_at=later),
        setting(change_id="c-2.autopay", value=False, cause="unlink", changed_at=later),
    )

    assert state is not None
    assert (state.linked, state.autopay) == (False, False)


async def test_a_biller_whose_file_was_taken_away_parks_its_settings() -> None:
    imt, nobody = ImtInMemory(), frozenset[str]()

    assert await apply_setting(setting(), imt, nobody) == Parked(
        "unknown_biller", "no biller's file names this biller", True
    )
    assert await find_setting(setting(), imt, nobody) == NotFound()
    assert patience_with_imt(setting(), imt, nobody) == 0
    assert imt.sent == []
