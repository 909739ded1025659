"""Why a delivery is parked, in plain words, and what a person does about it."""

from dataclasses import dataclass
from typing import Literal

Retry = Literal["deliver", "find the account", "of no use"]


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """`retry` says what a retry does: delivers (asking first where a request may have left), delivers once
    the account is found, or cannot help."""

    means: str
    advice: str
    retry: Retry = "deliver"


_NO_ACCOUNT = (
    "If the account's BIF row has come since, retry: the account is looked for again. Else find out which "
    "account is meant and retry with --account; the account must be known from a BIF row."
)
_SEVERAL = (
    "Find out which of the candidates is meant, from the payer or at InvoiceCloud, and retry with --account."
)
MEANINGS: dict[str, Meaning] = {
    "account_unknown": Meaning(
        means="No account was known by the invoice or the number given, so nothing was sent to IMT.",
        advice=_NO_ACCOUNT,
        retry="find the account",
    ),
    "account_ambiguous": Meaning(
        means="More than one account could be meant, or invoice and number name different ones; "
        "nothing was sent to IMT.",
        advice=_SEVERAL,
        retry="find the account",
    ),
    "policy_unknown": Meaning(
        means="No account was known on which the policy is billed, so nothing was sent to IMT.",
        advice=_NO_ACCOUNT,
        retry="find the account",
    ),
    "policy_ambiguous": Meaning(
        means="The policy number is billed on more than one account; nothing was sent to IMT.",
        advice=_SEVERAL,
        retry="find the account",
    ),
    "unknown_biller": Meaning(
        means="No biller's file named this biller, so nothing was sent.",
        advice="Put the biller's file back (or in place), restart the service, and retry.",
    ),
    "unsupported": Meaning(
        means="The money is taken, but by a product, tender or shape that is not supported; "
        "nothing was sent to IMT.",
        advice="A retry would park it again. Post it at IMT by hand, then dismiss it with IMT's reference as "
        "the reason; `billbus support` shows the row.",
        retry="of no use",
    ),
    "conflict": Meaning(
        means="This id is taken by other content: the first one was delivered as usual, this one never.",
        advice="Compare the two with IC. If the later one is a mistake, dismiss it; if it is the right one, "
        "correct it at the partner by hand, then dismiss it. It is never retried as the original.",
        retry="of no use",
    ),
    "in_doubt": Meaning(
        means="A request may have reached the partner, and the partner cannot say whether it has it so.",
        advice="Look at the partner's own screen. If it has it, dismiss this with the partner's reference; "
        "if another account or amount stands there, have it corrected first. Retry where it can be asked: "
        "the partner is asked first, and what it has is not sent again.",
    ),
    "retries_exhausted": Meaning(
        means="It was tried for as long as the lane tries, and each time the partner failed for this one.",
        advice="Find out what the partner stumbles over (its log at the time of the outcome), then retry: "
        "the partner is asked first where a request may have left.",
    ),
    "outage_of_this_one": Meaning(
        means="The partner was taken to be away for this one again and again, while it answered others.",
        advice="Something in this record makes the partner, or a proxy before it, fail. Find out what, "
        "then retry.",
    ),
    "handler_failed": Meaning(
        means="A fault of billbus itself, three times: a request may have left.",
        advice="Tell the developers, with the outcome's time and event id (the service's log names the "
        "line). After the fix is deployed, retry: the partner is asked first.",
    ),
}
"""By the part of the reason before a colon."""
_UNKNOWN = Meaning(
    means="This billbus does not know the reason: a newer one may have parked it.",
    advice="Use the billbus of the services' own version.",
)


def meaning_of(reason: str) -> Meaning:
    """What a parked outcome's reason means; `unsupported: refund` and the like by their first word."""
    return MEANINGS.get(reason.partition(":")[0], _UNKNOWN)
