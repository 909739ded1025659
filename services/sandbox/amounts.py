"""Money and instants as the partners write them; inside, cents and milliseconds."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation

Now = Callable[[], datetime]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MOST_CENTS = 10**12


class Malformed(ValueError):
    """A value that is not what its field takes; the message names the field."""


def cents(raw: object, name: str) -> int:
    """USD, as text or a number, in cents."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | float | Decimal):
        raise Malformed(f"{name} is not an amount")
    try:
        exact = Decimal(str(raw)) * 100
    except InvalidOperation:
        raise Malformed(f"{name} is not an amount") from None
    if not exact.is_finite() or exact != exact.to_integral_value() or abs(exact) > _MOST_CENTS:
        raise Malformed(f"{name} is not an amount to the cent")
    return int(exact)


def money(amount: int) -> str:
    """Cents as text with two places."""
    return f"{'-' if amount < 0 else ''}{abs(amount) // 100}.{abs(amount) % 100:02d}"


def millis(at: datetime) -> int:
    """Milliseconds since 1970."""
    return (at - _EPOCH) // _MILLISECOND


def instant(at_ms: int) -> str:
    """UTC with milliseconds and Z."""
    seconds, rest = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def read_instant(raw: object, name: str) -> int:
    """An ISO 8601 instant with an offset, in milliseconds."""
    try:
        at = datetime.fromisoformat(raw) if isinstance(raw, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Malformed(f"{name} is not an instant with an offset")
    return millis(at)


def read_day(raw: object, name: str) -> str:
    """A business day, as it was written."""
    try:
        return date.fromisoformat(raw if isinstance(raw, str) else "").isoformat()
    except ValueError:
        raise Malformed(f"{name} is not a date") from None
