"""The client of IMT's Settings."""

from dataclasses import dataclass
from datetime import datetime

from services.bus.billers import Billers
from services.bus.imt import ImtCalls
from services.bus.lane import Posted, Rejected
from services.bus.partner import PartnerHttp
from services.bus.secrets import Secrets
from services.bus.wire import Imt, WireError, instant, read_instant
from services.events import SettingChanged

SERVICE = "imt.settings"
_NOT_THERE = ("not_found", "unknown_number")


@dataclass(frozen=True, slots=True)
class Standing:
    """An indicator as IMT has it, with the change that made it so, where IMT names one."""

    value: bool
    change_id: str | None
    reference: str | None
    applied_at: datetime | None = None


class ImtSettings:
    """Sets T/F indicators and reads them; raises services.bus.partner's errors."""

    def __init__(self, partners: PartnerHttp, billers: Billers, secrets: Secrets, imt: Imt) -> None:
        self._billers = billers
        self._imt = imt
        self._wire = imt.services.settings
        self._calls = ImtCalls(
            SERVICE, partners, secrets, imt, self._wire, lambda biller: biller.imt.settings
        )

    async def set_indicator(self, setting: SettingChanged, number: str) -> Posted | Rejected:
        """Sets one indicator of IMT's account or policy number; Rejected with IMT's code where it says no."""
        body = self._wire.out(
            indicator=self._wire.indicators[setting.indicator],
            value=self._imt.flag(setting.value),
            changed_at=instant(setting.changed_at) if setting.changed_at else None,
            change_id=setting.change_id,
        )
        reply = await self._calls.call(self._billers[setting.biller], "post_setting", body, number=number)
        record = reply.json()
        if not reply.ok:
            code = self._imt.errors.code(record) or f"status {reply.status}"
            return Rejected(code, f"IMT refused the setting with {reply.status}")
        try:
            reference = self._wire.read(record, "reference")
        except WireError as error:
            raise reply.refused(str(error)) from None
        if not reference:
            raise reply.refused("the answer to a setting names no reference")
        return Posted(str(reference))

    async def read_indicator(self, setting: SettingChanged, number: str) -> Standing | None:
        """How one indicator stands at IMT, or None where it was never set."""
        return (await self.read_all(setting.biller, number)).get(setting.indicator)

    async def read_all(self, biller: str, number: str) -> dict[str, Standing]:
        """All that was ever set on a number, by our word for the indicator; nothing where IMT has no such."""
        reply = await self._calls.call(self._billers[biller], "read_settings", number=number)
        record = reply.json()
        if not reply.ok:
            if self._imt.errors.code(record) in _NOT_THERE:
                return {}
            raise reply.refused(f"the look-up was answered with {reply.status}")
        try:
            return self._standings(record)
        except WireError as error:
            raise reply.refused(str(error)) from None

    def patience_s(self, biller: str) -> float:
        """Our deadline and the margin: after that a request we gave up cannot take effect."""
        imt = self._billers[biller].imt
        return imt.deadline_s + imt.margin_s

    def _standings(self, record: object) -> dict[str, Standing]:
        items = self._wire.read(record, "items")
        if not isinstance(items, list):
            raise WireError(f"{self._wire.envelope['items']} is not a list")
        ours = {wire: indicator for indicator, wire in self._wire.indicators.items()}
        found: dict[str, Standing] = {}
        for item in items:
            indicator = ours.get(self._wire.read(item, "indicator"))
            if indicator is not None and indicator not in found:
                found[indicator] = self._standing(item)
        return found

    def _standing(self, item: object) -> Standing:
        applied = self._wire.read(item, "applied_at")
        return Standing(
            value=self._imt.read_flag(self._wire.read(item, "value"), self._wire.names["value"]),
            change_id=self._text(item, "change_id"),
            reference=self._text(item, "reference"),
            applied_at=read_instant(applied, self._wire.reply["applied_at"]) if applied else None,
        )

    def _text(self, item: object, name: str) -> str | None:
        value = self._wire.read(item, name)
        return str(value) if value is not None else None
