"""When a table counts as stalled: records to read, none finished, for a minute."""

from aiokafka import TopicPartition
from faust.exceptions import ConsumerNotStarted

from services.bus.table_watch import LIMIT_S, Stall, Standing, _watched

ONE, TWO = TopicPartition("billing.invoice.issued.v1", 1), TopicPartition("billing.invoice.issued.v1", 2)


def test_a_partition_that_stands_still_behind_its_end_is_a_stall_by_name() -> None:
    stall = Stall()
    assert stall.look({ONE: Standing(5, 9), TWO: Standing(3, 4)}, 0, 0) is None
    assert stall.look({ONE: Standing(5, 20), TWO: Standing(4, 4)}, 0, LIMIT_S - 1) is None
    told = stall.look({ONE: Standing(5, 20), TWO: Standing(4, 4)}, 0, LIMIT_S)
    assert told == "billing.invoice.issued.v1/1 stands at 5 of 20 for 60 s"


def test_slow_is_not_stalled() -> None:
    stall = Stall()
    assert [stall.look({ONE: Standing(n, 1000)}, 0, n * (LIMIT_S - 1)) for n in range(50)] == [None] * 50


def test_a_partition_without_work_may_rest() -> None:
    stall = Stall()
    assert [stall.look({ONE: Standing(7, 7)}, 0, n * LIMIT_S) for n in range(5)] == [None] * 5
    assert stall.look({ONE: Standing(7, 8)}, 0, 5 * LIMIT_S) is None, "its minute begins with the record"
    assert stall.look({ONE: Standing(7, 8)}, 0, 6 * LIMIT_S) is not None


def test_reading_the_tables_back_takes_as_long_as_it_takes() -> None:
    stall = Stall()
    assert [stall.look({ONE: Standing(0, 9)}, n, n * LIMIT_S) for n in range(1, 9)] == [None] * 8
    assert stall.look({ONE: Standing(0, 9)}, 8, 9 * LIMIT_S) is not None


def test_a_partition_that_comes_back_begins_anew_and_so_does_all_after_the_broker_was_away() -> None:
    stall = Stall()
    stall.look({ONE: Standing(5, 9), TWO: Standing(5, 9)}, 0, 0)
    stall.look({TWO: Standing(6, 9)}, 0, LIMIT_S / 2)
    assert stall.look({ONE: Standing(5, 9)}, 0, LIMIT_S) is None
    stall.forget()
    assert stall.look({ONE: Standing(5, 9)}, 0, 3 * LIMIT_S) is None


def test_before_the_tables_have_a_consumer_every_partition_is_looked_at() -> None:
    class Starting:
        started = True

        class consumer:  # noqa: N801 - an attribute of Faust's app
            @staticmethod
            def assignment() -> set[TopicPartition]:
                raise ConsumerNotStarted

    partitions = [TopicPartition("t", 0), TopicPartition("t", 1)]
    assert _watched(Starting(), partitions) == partitions
