"""What nobody can decode: kept before its offset counts, and too many in a row are our own fault."""

from pathlib import Path

import pytest

from services.bus.delivery import DEAD_LETTERS_IN_A_ROW, TooManyDeadLetters
from tests.fake_broker import Desk, at
from tests.lane_bench import reaches


async def test_its_offset_stays_until_the_dead_letter_is_acknowledged(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.publisher.away = True
    desk.append("poison", "A-1")
    async with desk.lane():
        await reaches(lambda: desk.partner.effects == ["A-1"])
        assert desk.broker.committed(at(0)) == 0
        desk.publisher.away = False
        await reaches(lambda: desk.broker.committed(at(0)) == 2)
    assert desk.publisher.letters == [b"poison"]


async def test_too_many_in_a_row_end_the_lane_with_what_to_look_at(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.append(*["poison"] * (3 * DEAD_LETTERS_IN_A_ROW))

    async def until_it_ends() -> None:
        async with desk.lane() as lane:
            await reaches(lambda: lane._failure is not None)

    with pytest.raises(ExceptionGroup) as raised:
        await until_it_ends()
    assert raised.group_contains(TooManyDeadLetters, match="check the schema")
    assert desk.broker.committed(at(0)) <= len(desk.publisher.letters)


async def test_good_ones_between_them_keep_the_lane_alive(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for number in range(4):
        for _ in range(DEAD_LETTERS_IN_A_ROW - 1):
            desk.broker.append(at(0), "A", "poison")
        desk.append(f"A-{number}")
    async with desk.lane():
        await reaches(lambda: desk.broker.committed(at(0)) == 4 * DEAD_LETTERS_IN_A_ROW, 20)
    assert len(desk.partner.effects) == 4
