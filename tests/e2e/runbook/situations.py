"""All situations, by the page that they belong to."""

from __future__ import annotations

from tests.e2e.runbook import bus, golive, keys, money, partners
from tests.e2e.runbook.situation import Situation

ALL: tuple[type[Situation], ...] = (
    partners.PartnerDown,
    partners.LagGrows,
    partners.Drifted,
    money.RestoredBackup,
    money.DoubleSuspected,
    money.PaymentMissing,
    money.BatchDoesNotMatch,
    money.Parked,
    money.UnsupportedParked,
    money.Voided,
    money.ReplayedDay,
    keys.KeyChanges,
    bus.Poison,
    bus.BrokerLost,
    bus.LostOffsets,
    bus.ServiceEnds,
    golive.NewBiller,
    golive.GoLive,
)
BY_PAGE = {each.page: each for each in ALL}
