"""A biller: what is agreed with an insurer, as its file says it."""

import re
from datetime import time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _zone(name: object) -> ZoneInfo:
    try:
        return name if isinstance(name, ZoneInfo) else ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is not a timezone of the IANA database, such as America/Chicago"
        ) from None


def _time_of_day(stated: object) -> object:
    # YAML reads a bare 17:00 as the number 1020
    if not isinstance(stated, str | time):
        raise ValueError('write the time in quotes, as in "17:00"')
    return stated


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


Zone = Annotated[ZoneInfo, BeforeValidator(_zone)]
TimeOfDay = Annotated[time, BeforeValidator(_time_of_day)]
Expression = Annotated[str, AfterValidator(_expression)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")]
MOST_REPEAT_DAYS = 31
SecretName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True
    )


class BatchRule(_Part):
    """When the business day ends and what belongs to it (the custom part of batch closure; assumed)."""

    cut_off: TimeOfDay
    """Time of day in its timezone, in quotes; a payment stamped at or after it is the next day's."""
    rule: Literal["received_by_cut_off"] = "received_by_cut_off"
    """Name of the closure rule, carried in `batch.closed`."""
    late_payment: Literal["original", "open"] = "original"
    """Batch date of a payment that is posted after its batch closed: its own, or the one open then."""
    repeat_days: int = Field(default=7, ge=1, le=MOST_REPEAT_DAYS)
    """Business days for which a PaymentGUID that comes again counts as a repeat (assumed)."""


class AccountNumbers(_Part):
    """How account numbers look and how a typed one is matched."""

    alphanumeric: bool
    """Whether letters count in what IVR callers type; elsewhere they always do."""
    strip_leading_zeros: bool = True
    """Whether 000123 and 123 are the same number."""
    pattern: Expression = r"[0-9A-Za-z][0-9A-Za-z -]{0,39}"
    """Regular expression that a whole canonical number of the BIF fits."""


class InvoiceCloudAccess(_Part):
    """Where and as whom invoices are uploaded to IC."""

    url: Url
    """Address of CloudInvoicing.asmx."""
    biller_guid: str = Field(min_length=1)
    """Biller GUID, from IC's set-up."""
    invoice_type_id: int = Field(ge=0)
    """Invoice Type ID, from IC's set-up."""
    biller_code: str = Field(min_length=1)
    """Biller Code, from IC's set-up."""
    web_service_key: SecretName
    """Name of the secret that holds the Web Service Key."""
    deadline_s: float = Field(default=10, gt=0, le=120)
    """Seconds until an upload counts as unanswered."""
    margin_s: float = Field(default=5, ge=0, le=600)
    """Seconds beyond the deadline in which IC may still act on it (assumed)."""


class ImtAccess(_Part):
    """Where and as whom IMT's four services are called."""

    payments_due: Url
    """Address of `payments-due`, without the operation."""
    datapump: Url
    """Address of `DataPump Payments`."""
    settings: Url
    """Address of `Settings`."""
    bills: Url
    """Address of `Bills`."""
    token: SecretName
    """Name of the secret that holds the bearer token."""
    deadline_s: float = Field(default=5, gt=0, le=120)
    """Seconds until a call counts as unanswered."""
    margin_s: float = Field(default=1, ge=0, le=600)
    """Seconds beyond the deadline in which IMT may still act on it (assumed)."""
    looks_up_payments: bool = True
    """Whether IMT finds a payment by its GUID; if not, one in doubt is parked for a person (assumed)."""
    lists_payments: bool = True
    """Whether IMT lists the payments of a batch date; if not, `reconcile` has ours alone (assumed)."""
    bill_deadline_s: float = Field(default=20, gt=0, le=300)
    """Seconds for a whole PDF."""
    bill_limit_bytes: int = Field(default=20 * 1024 * 1024, ge=1024)
    """Largest PDF, in bytes."""


class Intake(_Part):
    """Who may speak for the biller at our intakes; one of the two credentials at least."""

    user: str = Field(default="", pattern=r"^[^:\s]*$")
    """User of Basic authentication."""
    password: SecretName | None = None
    """Name of the secret that holds its password."""
    bearer: SecretName | None = None
    """Name of the secret that holds the bearer token."""


class Rtdr(_Part):
    """Real-time data refresh: what IC gets when it asks for a balance."""

    deadline_s: float = Field(default=2, gt=0, le=30)
    """Seconds within which IC gets an answer."""
    on_outage: Literal["error", "stale"] = "error"
    """While IMT is away: an error with Retry-After, or the last balance marked stale with its time."""


class Poll(_Part):
    """The poll of IMT's payments-due for what changed."""

    every_s: float = Field(default=60, gt=0)
    """Seconds between two polls."""
    overlap_s: float = Field(default=60, ge=0)
    """Seconds that a poll looks back behind the last change it saw."""


class NotifyDate(_Part):
    """A notify date around the due date."""

    days: int = Field(ge=-90, le=90)
    """Days after the due date; negative: before it."""
    weekend: Literal["none", "before", "after"] = "none"
    """Where a Saturday or Sunday goes: it stays, the Friday before, the Monday after."""


class NotifySchedule(_Part):
    """E-mail notification schedule, for invoices whose BIF row names no date; null: no date."""

    first: NotifyDate | None = None
    """First notify date."""
    second: NotifyDate | None = None
    """Second notify date."""
    third: NotifyDate | None = None
    """Third notify date."""


class Autopay(_Part):
    """Rules for autopay."""

    collection_after_due: bool = False
    """Whether a collection date after the due date is accepted."""


class Links(_Part):
    """Bill links."""

    key: SecretName
    """Name of the secret that signs the links."""
    valid_days: int = Field(default=400, ge=1, le=3650)
    """Days after the bill's date until which a link is good."""


class Biller(_Part):
    """An insurer and what is agreed with it."""

    slug: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")
    """Short name in addresses, keys and commands; also the file's name."""
    name: str = Field(min_length=1)
    """The insurer's name."""
    timezone: Zone
    """IANA timezone of its business day."""
    batch: BatchRule
    """Business day and batch closure."""
    accounts: AccountNumbers
    """Account numbers."""
    billing: Literal["balance_forward"] = "balance_forward"
    """How bills add up; the integration requires balance forward."""
    bill_images: Literal["pdf_linking"] = "pdf_linking"
    """How bill images reach IC; PDF linking is the one supported way."""
    data: dict[str, bool] = {}
    """Data structures switched on, by slug of the support table."""
    products: dict[str, bool] = {}
    """Products switched on, by slug; one that is not named is off."""
    features: dict[str, bool] = {}
    """Features switched on, by slug; balance_forward must be named."""
    equipment: dict[str, bool] = {}
    """Devices switched on, by slug; none is supported."""
    invoice_cloud: InvoiceCloudAccess
    """IC's web service."""
    imt: ImtAccess
    """IMT's web services."""
    plain_http: bool = False
    """Whether partners may be called without TLS beyond this machine; leave it off in production."""
    intake: Intake
    """Credentials for our intakes."""
    rtdr: Rtdr = Rtdr()
    """Real-time data refresh."""
    poll: Poll = Poll()
    """Balance poll."""
    notify: NotifySchedule = NotifySchedule()
    """E-mail notification schedule."""
    autopay: Autopay = Autopay()
    """Autopay."""
    links: Links
    """Bill links."""

    def offers(self, slug: str) -> bool:
        """Whether a row of the support table that is optional is switched on here."""
        return any(section.get(slug, False) for section in (self.products, self.features, self.data))

    def secret_names(self) -> dict[str, str]:
        """The secrets it needs: field to name."""
        named = {
            "invoice_cloud.web_service_key": self.invoice_cloud.web_service_key,
            "imt.token": self.imt.token,
            "intake.password": self.intake.password,
            "intake.bearer": self.intake.bearer,
            "links.key": self.links.key,
        }
        return {field: name for field, name in named.items() if name is not None}
