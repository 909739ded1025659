"""How long accounts stood still: in doubt they may, otherwise not longer than was promised."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from math import inf

from deploy.local.day.facts import Id
from tests.chaos.facts import Effect, Payment, Window
from tests.chaos.verdict import Book

SETTLING_S = 0.5
"""An effect this short before a fault may not be acknowledged by the bus when the fault comes."""


def judge_stalls(book: Book) -> None:
    """How long an account stood still although a payment of it was accepted.

    In doubt at a fault is, seen from outside, an account with a payment sent before it had happened whose
    effect had not come, or came so late that the bus may not have known of it.
    """
    accounts: dict[Id, list[tuple[Payment, Effect]]] = defaultdict(list)
    for payment in book.facts.payments:
        effects = book.effects.get(payment.id)
        if effects and payment.accepted is not None:
            accounts[payment.biller, payment.account].append((payment, effects[0]))
    for pairs in accounts.values():
        pairs.sort(key=lambda pair: pair[1].seq)
        before = 0.0
        for payment, effect in pairs:
            _note_stall(book, payment, effect, max(payment.accepted or 0.0, before), pairs)
            before = effect.at


def _note_stall(
    book: Book, payment: Payment, effect: Effect, since: float, pairs: list[tuple[Payment, Effect]]
) -> None:
    """A stall that outlasts its window counts there as far as it goes, and as in doubt where it ends."""
    began, ended, whose = book.window(since), book.window(effect.at), " ".join(payment.id)
    if ended is not began:
        book.lines[ended.name].stall(effect.at - since, whose, in_doubt=True)
    line, waited = book.lines[began.name], min(effect.at, _end(book, began)) - since
    beyond = began.bound_s is not None and waited > began.bound_s
    if not beyond and waited <= min(line.stall_s, line.in_doubt_s):
        return
    in_doubt = any(_open(*pair, began) for pair in pairs)
    line.stall(waited, whose, in_doubt=in_doubt)
    if beyond and not in_doubt:
        book.blame("stall", payment, f"waited {waited:.1f} s, more than {began.bound_s:.0f} s", since)


def _end(book: Book, window: Window) -> float:
    after = bisect_right(book.begins, window.begin)
    return book.begins[after] if after < len(book.begins) else inf


def _open(payment: Payment, effect: Effect, window: Window) -> bool:
    """Whether a payment was under way when the fault came."""
    return (payment.sent or 0.0) < max(window.begin, window.struck) and window.begin < effect.at + SETTLING_S
