"""A service of the day that ends by itself ends the day, with its last words; one that is killed does not."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.local.day.driver import Driver
from deploy.local.day.partners import BrokeOff


class Log:
    def read_text(self, errors: str) -> str:
        del errors
        return '{"event": "starting"}\n{"event": "part_failed", "reason": "stands at 5 of 9"}\n'


def a_day(down: str) -> Any:
    installation = SimpleNamespace(alive=lambda name: name != "invoices", log=lambda _: Log())
    return SimpleNamespace(
        partners=SimpleNamespace(installation=installation), crash=SimpleNamespace(down=down)
    )


async def test_a_service_that_ended_by_itself_is_named_with_its_last_words() -> None:
    with pytest.raises(BrokeOff, match=r"invoices has ended by itself, .*stands at 5 of 9"):
        await asyncio.wait_for(Driver._watch_services(a_day("")), 5)


async def test_one_that_is_killed_comes_back_and_is_no_reason_to_stop() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Driver._watch_services(a_day("invoices")), 0.2)
