"""Reading offsets from outside a group, where the broker is not ready yet."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from services.bus import groups
from services.bus.groups import edge_offsets

PLACE = TopicPartition("billing.payment.received.v1", 3)


class Admin:
    """Answers each question about offsets with the next of these: an offset, or a fault's code."""

    def __init__(self, *answers: int | KafkaError) -> None:
        self.answers = list(answers)

    def list_offsets(self, asked: dict[TopicPartition, OffsetSpec], **_: object) -> dict[TopicPartition, Any]:
        answer, future = self.answers.pop(0), Future[Any]()
        if isinstance(answer, KafkaError):
            future.set_exception(KafkaException(answer))
        else:
            future.set_result(SimpleNamespace(offset=answer))
        return dict.fromkeys(asked, future)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr(groups, "time", SimpleNamespace(sleep=lambda _: None, monotonic=lambda: next(now)))


def ask(admin: Any) -> dict[TopicPartition, int]:
    return edge_offsets(admin, [PLACE], OffsetSpec.latest())


def test_a_new_topic_whose_leader_is_not_known_everywhere_is_asked_again() -> None:
    moving = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
    assert ask(Admin(moving, KafkaError(KafkaError.LEADER_NOT_AVAILABLE), 17)) == {PLACE: 17}


def test_it_is_asked_no_longer_than_the_deadline() -> None:
    admin = Admin(*[KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)] * 100)
    with pytest.raises(KafkaException):
        ask(admin)
    assert len(admin.answers) > 90


def test_what_waiting_does_not_mend_is_raised_at_once() -> None:
    admin = Admin(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), 17)
    with pytest.raises(KafkaException):
        ask(admin)
    assert admin.answers == [17]
