"""Adding a biller: asked only, or written, tried and told on the audit topic."""

from dataclasses import dataclass

from services.bus.billers import Biller
from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import Settings
from services.operations import onboard
from services.operations.audit import Act, auditing
from services.operations.onboard import Onboarding
from services.operations.onboard_trial import NotTried, Tried, account_for, try_out


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Where the sandbox and the invoices service are, and the account of the trial ('': any that fits)."""

    sandbox: str
    invoices: str
    account: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """By service what its partner answers (`answers`, or its trouble), what came of the trial, and why there
    was none."""

    partners: dict[str, str]
    tried: list[Tried]
    not_tried: str = ""

    @property
    def good(self) -> bool:
        """Whether every partner answers, and all that was tried took effect."""
        answering = bool(self.partners) and set(self.partners.values()) == {"answers"}
        return answering and all(each.state == "posted" for each in self.tried)


async def look(settings: Settings, made: Onboarding, clock: Clock) -> Report:
    """What would be; the partners are asked, nothing is written or sent."""
    return Report(
        partners=await _partners(settings, made, clock),
        tried=[],
        not_tried="without --yes nothing is sent",
    )


async def act(
    settings: Settings, made: Onboarding, clock: Clock, trial: Trial, *, operator: str, reason: str
) -> Report:
    """Writes the file where it is not there or differs, asks the partners, and tries the biller out.

    Raises Unreachable, and OSError where the file cannot be written.
    """
    told = Act(operator=operator, action="onboard", target=made.slug, reason=reason, biller=made.slug)
    async with auditing(settings, load_catalog(settings.schemas), clock) as audit:
        await audit.told(told, "begun")
        if made.state != "unchanged":
            onboard.write(made)
        partners = await _partners(settings, made, clock)
        try:
            if made.biller is None or made.missing:
                raise NotTried("its secrets are not all there yet")
            tried, why = await _try(settings, made.biller, clock, trial), ""
        except NotTried as error:
            tried, why = [], str(error)
        came = ", ".join(f"{each.what} {each.state}" for each in tried) or "not tried"
        await audit.told(told, f"file {made.state}; {came}")
    return Report(partners=partners, tried=tried, not_tried=why)


async def _try(settings: Settings, biller: Biller, clock: Clock, trial: Trial) -> list[Tried]:
    number = account_for(biller, trial.account)
    return await try_out(
        settings, biller, clock, sandbox=trial.sandbox, invoices=trial.invoices, account=number
    )


async def _partners(settings: Settings, made: Onboarding, clock: Clock) -> dict[str, str]:
    if made.biller is None or made.missing:
        return {}
    answers = await onboard.ask_its_partners(settings, made.biller, clock)
    return {name: each.trouble.reason if each.trouble else "answers" for name, each in answers.items()}
