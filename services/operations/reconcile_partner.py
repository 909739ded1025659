"""IMT's own list of a batch, into the book; what it lacks is asked for singly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import date
from typing import Protocol

from services.bus.partner import PartnerError, Retryable
from services.operations.reconcile_book import Book
from services.operations.reconcile_words import AT_IMT, PartnerSide, PartnerState, Totals
from services.payments.imt import Page, Posting

MOST_PAGES = 200_000
"""A list that goes on beyond it is taken for one that never ends."""
MOST_ASKED = 2_000
"""Payments that IMT's list lacks and that are asked for singly; the rest is named without."""
AT_ONCE = 8
TRIES, PAUSE_S = 4, 0.5


class Lists(Protocol):
    """What is needed of IMT's DataPump Payments; the calls raise services.bus.partner's errors."""

    async def list_batch(self, biller: str, batch_day: date, after: str | None = None) -> Page: ...
    async def find(self, biller: str, payment_guid: str) -> Posting | None: ...
    def lists(self, biller: str) -> bool: ...
    def looks_up(self, biller: str) -> bool: ...


class PartnerBatch:
    """One batch of a biller at IMT. Only questions are asked; a busy IMT is asked TRIES times."""

    def __init__(self, imt: Lists, biller: str, day: date, book: Book) -> None:
        self._imt = imt
        self._biller = biller
        self._day = day
        self._book = book
        self._said: Totals | None = None
        self._fault: str | None = None

    async def read(self, told: Callable[[int], None]) -> None:
        """Reads the whole list; `told` hears of each page's payments."""
        if not self._imt.lists(self._biller):
            return
        after: str | None = None
        try:
            for _ in range(MOST_PAGES):
                page = await self._patiently(after)
                for guid, posting in page.payments:
                    self._book.at_imt(guid, posting)
                told(len(page.payments))
                if page.after is None:
                    self._finish(page)
                    return
                if page.after == after:
                    break
                after = page.after
            self._fault = "its list never ends"
        except PartnerError as error:
            self._fault = error.reason

    def _finish(self, page: Page) -> None:
        self._book.listed = True
        if page.count is not None and page.amount is not None:
            self._said = Totals(page.count, page.amount)

    async def _patiently(self, after: str | None) -> Page:
        for attempt in range(1, TRIES):
            try:
                return await self._imt.list_batch(self._biller, self._day, after)
            except Retryable:
                await asyncio.sleep(PAUSE_S * attempt)
        return await self._imt.list_batch(self._biller, self._day, after)

    async def ask_for_the_rest(self) -> None:
        """Asks by GUID for what we hold posted and the list lacks: it may be gone, or in another batch."""
        if not (self._book.listed and self._imt.looks_up(self._biller)):
            return
        wanted = iter(self._book.not_listed(MOST_ASKED))

        async def ask() -> None:
            for guid, sent in wanted:
                posting = await self._imt.find(self._biller, sent)
                if posting is None:
                    self._book.asked(guid)
                else:
                    self._book.at_imt(guid, posting, asked=True)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(ask())
        except* PartnerError as errors:
            error = errors.exceptions[0]
            self._fault = error.reason if isinstance(error, PartnerError) else str(error)

    def side(self, differences: Mapping[str, int]) -> PartnerSide:
        """How the list and what we hold posted there compare, with the book's count of `differences`."""
        if not self._imt.lists(self._biller):
            return PartnerSide(state="no list", reason="this IMT lists no payments (lists_payments: false)")
        listed, expected = self._book.listed_by_imt(), self._book.expected_at_imt()
        if self._fault is not None:
            return PartnerSide(state="not reached", expected=expected, reason=self._fault)
        # sums alone may agree by chance: one payment lost, another of the same amount doubled
        same = listed == expected and not any(kind in AT_IMT for kind in differences)
        state: PartnerState = "agrees" if same else "differs"
        return PartnerSide(state=state, listed=listed, expected=expected, said=self._said)
