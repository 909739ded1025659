"""What IC tells of one payment: read by the names and words of schemas/partners/invoicecloud.yaml."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict

from services.bus.billers import Biller
from services.bus.identity import digest
from services.bus.support import SupportMatrix, wire
from services.bus.wire import Malformed, read_contract

CENT = Decimal("0.01")
LARGEST = Decimal("9999999999.99")
GUID = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._:-]{1,80}")
READ = ("payment_guid", "biller_guid", "amount", "convenience_fee", "paid_at")
TEXTS = (
    *("invoice_number", "account_as_sent", "card_type", "product", "agent", "schedule_id", "schedule_kind"),
    *("payment_type", "device", "description", "payer_name", "biller_reference"),
)
TEXTUAL = (str, int, float, Decimal)
SPACES = re.compile(r"[\t\n\v\f\r\u2028\u2029]+")
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
AMOUNT = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,4})?")
TO_THE_CENT = re.compile(r"[0-9]{1,10}\.[0-9]{2}")
"""How amounts nearly always come; what reads so needs no further check."""


class BatchRule(BaseModel):
    """How payments come together in JSON: the member that lists them, and how many at most."""

    model_config = ConfigDict(frozen=True)

    envelope: str
    max_items: int


class Form(BaseModel):
    """The payment form's section of the contract."""

    model_config = ConfigDict(frozen=True)

    fields: dict[str, str]
    assumed: dict[str, str]
    words: dict[bool, str]
    date_formats: tuple[str, ...]
    max_text: int
    batch: BatchRule


class PaymentContract(BaseModel):
    """The part of invoicecloud.yaml that speaks of payments."""

    model_config = ConfigDict(frozen=True)

    payment_form: Form
    default_product: str
    payment_types: dict[str, str]
    schedule_kinds: dict[str, str]
    own_products: dict[str, str]

    def has(self, name: str) -> bool:
        return name in self.payment_form.fields or name in self.payment_form.assumed

    def wire(self, name: str) -> str:
        """The wire name of one of our names."""
        form = self.payment_form
        return form.fields.get(name) or form.assumed[name]


def load_contract(partners: Path) -> PaymentContract:
    """Reads invoicecloud.yaml; raises ConfigurationError with everything wrong in it."""
    return read_contract(partners / "invoicecloud.yaml", PaymentContract)


class Notice(NamedTuple):
    """One payment as IC told it, in our words; amounts in USD, `paid_at` in UTC."""

    payment_guid: str
    payment_guid_as_sent: str
    biller_guid: str | None
    invoice_number: str | None
    account_as_sent: str | None
    amount: Decimal
    convenience_fee: Decimal
    approved: bool
    tender: str
    card_type: str | None
    product: str
    agent: str | None
    schedule_id: str | None
    schedule_kind: str | None
    paid_at: datetime
    description: str | None
    payer_name: str | None
    biller_reference: str | None
    unsupported: str | None

    @property
    def content(self) -> str:
        """Digest of what makes it this payment; texts and the payer's name may differ in a repeat."""
        what = (self.invoice_number, self.account_as_sent, self.amount, self.convenience_fee, self.approved)
        how = (self.tender, self.product, self.agent, self.schedule_id, self.schedule_kind)
        return digest(*what, *how, self.paid_at.isoformat())


class NoticeReader:
    """Reads notices of one contract."""

    def __init__(self, contract: PaymentContract, support: SupportMatrix) -> None:
        self.contract = contract
        self._support = support
        self._wires = {name: contract.wire(name) for name in (*READ, *TEXTS)}
        self._texts = [(name, self._wires[name]) for name in TEXTS]
        self._flags = {word.lower(): value for value, word in contract.payment_form.words.items()}
        self._most = contract.payment_form.max_text
        self._own_products = {wire(word): ours for word, ours in contract.own_products.items()}
        self._schedule_kinds = {wire(word): ours for word, ours in contract.schedule_kinds.items()}

    def read(self, told: object, biller: Biller) -> Notice:
        """Raises Malformed naming the first field that does not read as agreed."""
        if not isinstance(told, dict):
            raise Malformed("payment", "an object")
        text = {name: self._text(told, name) for name in READ}
        texts = {
            name: None if (value := told.get(wire_name)) is None else self._plain(value)
            for name, wire_name in self._texts
        }
        spelled = text["payment_guid"] or ""
        guid = spelled.removeprefix("{").removesuffix("}").lower()
        if not GUID.fullmatch(guid):
            raise Malformed(self.contract.wire("payment_guid"), "an id of 1 to 80 letters, digits or .:_-")
        approved = self._flag(told)
        tender = self.contract.payment_types.get(
            texts["payment_type"] or "", texts["payment_type"] or "unknown"
        )
        product_named = texts["product"] or self.contract.default_product
        schedule_named = texts["schedule_kind"]
        notice = Notice(
            payment_guid=guid,
            payment_guid_as_sent=spelled,
            biller_guid=text["biller_guid"],
            invoice_number=texts["invoice_number"],
            account_as_sent=texts["account_as_sent"],
            amount=self._money("amount", text["amount"], required=True),
            convenience_fee=self._money("convenience_fee", text["convenience_fee"]),
            approved=approved,
            tender=tender,
            card_type=texts["card_type"],
            product=self._product(product_named),
            agent=texts["agent"],
            schedule_id=texts["schedule_id"],
            schedule_kind=self._schedule_kind(schedule_named),
            paid_at=self._instant(text["paid_at"], biller.timezone),
            description=texts["description"],
            payer_name=texts["payer_name"],
            biller_reference=texts["biller_reference"],
            unsupported=self._unsupported(biller, tender, product_named, texts["device"], schedule_named),
        )
        if approved and notice.amount == 0 and notice.schedule_kind != "pay_in_full":
            raise Malformed(self.contract.wire("amount"), "more than 0.00 for an approved payment")
        return notice

    @property
    def _form(self) -> Form:
        return self.contract.payment_form

    def _product(self, named: str) -> str:
        """Our word for a product, however it is spelled; as it was named where it is none of the table's."""
        row = self._support.product(named)
        return self._own_products.get(wire(named)) or (row.slug if row else named)

    def _schedule_kind(self, named: str | None) -> str | None:
        if named is None:
            return None
        row = self._support.schedule(named)
        return self._schedule_kinds.get(wire(named)) or (row.slug if row else named)

    def _unsupported(
        self, biller: Biller, tender: str, product: str, device: str | None, schedule: str | None
    ) -> str | None:
        """The row, or the unknown word, for which an approved payment is taken and parked."""
        row = self._support.product(product)
        if row is None and wire(product) not in self._own_products:
            return f"product {product}"
        if row is not None and not row.supported:
            return row.name
        if row is not None and row.optional and not biller.products.get(row.slug, False):
            return f"{row.name} (not switched on for this biller)"
        if device and (reader := self._support.device(device)):
            return reader.name
        if schedule:
            kind = self._support.schedule(schedule)
            if kind is None:
                return f"schedule {schedule}"
            if not kind.supported:
                return kind.name
        return None if tender in self.contract.payment_types.values() else f"tender {tender}"

    def _text(self, told: Mapping[str, object], name: str) -> str | None:
        """A field that has to read as agreed; its own check follows."""
        value = told.get(self._wires[name])
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, TEXTUAL):
            raise Malformed(self._wires[name], "text")
        return str(value).strip() or None

    def _plain(self, value: object) -> str | None:
        """A field for which no money is refused: cut, without control characters, None where it is no text.

        A number garbled so matches no account, and the payment is parked.
        """
        if isinstance(value, bool) or not isinstance(value, TEXTUAL):
            return None
        text = str(value)
        if not text.isprintable():
            text = UNPRINTABLE.sub("\ufffd", SPACES.sub(" ", text))
        text = text.strip()
        return text[: self._most].rstrip() or None

    def _flag(self, told: Mapping[str, object]) -> bool:
        field, words = self.contract.wire("approved"), self._form.words
        said = told.get(field)
        if isinstance(said, bool):
            return said
        value = self._flags.get(said.strip().lower()) if isinstance(said, str) else None
        if value is None:
            raise Malformed(field, f"{words[True]} or {words[False]}")
        return value

    def _money(self, name: str, text: str | None, *, required: bool = False) -> Decimal:
        expected = "an amount in USD such as 120.50, not negative, to the cent"
        if text is None and not required:
            return Decimal("0.00")
        if text is not None and TO_THE_CENT.fullmatch(text):
            return Decimal(text)
        try:
            amount = Decimal(text or "") if AMOUNT.fullmatch(text or "") else None
        except InvalidOperation:
            amount = None
        if amount is None or not 0 <= amount <= LARGEST or amount != (exact := amount.quantize(CENT)):
            raise Malformed(self.contract.wire(name), expected)
        return exact

    def _instant(self, text: str | None, timezone: ZoneInfo) -> datetime:
        """ISO 8601 or one of the contract's formats; without an offset in the biller's timezone."""
        at: datetime | None = None
        try:
            at = datetime.fromisoformat(text or "")
        except ValueError:
            for form in self._form.date_formats:
                try:
                    at = datetime.strptime(text or "", form)
                    break
                except ValueError:
                    continue
        if at is None or not 1990 <= at.year <= 2200:
            raise Malformed(self.contract.wire("paid_at"), "a date such as 2026-11-20T14:03:00Z")
        at = (at if at.tzinfo else at.replace(tzinfo=timezone)).astimezone(UTC)
        return at.replace(microsecond=at.microsecond // 1000 * 1000) if at.microsecond else at
