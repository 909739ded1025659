"""What goes wrong with the broker, with places on the log, with bytes and with processes."""

from __future__ import annotations

from datetime import datetime

import httpx
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from services.bus.catalog import REPLAY
from services.events import PaymentReceived
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S
from tests.e2e.runbook.situation import Situation

NOBODY = "127.0.0.1:1"
GROUP = "billbus.payments.post"


class Poison(Situation):
    """Somebody wrote what is no event onto the payments topic."""

    page, biller = "poison", "acme"

    def plant(self) -> dict[str, str]:
        producer = Producer({"bootstrap.servers": self.sides.stack.bootstrap})
        producer.produce(PaymentReceived.TOPIC, b"<payment>25.00</payment>", b"acme/0000005150")
        producer.flush(LIMIT_S)
        until(self._buried, LIMIT_S, "the dead letter")
        today = datetime.now(self.known_biller().timezone).date()
        return {"BILLER": self.biller, "DAY": today.isoformat()}

    def _buried(self) -> bool:
        return self.sides.metric("payments", "billbus_lane_dead_letters_total") > 0


class BrokerLost(Situation):
    """Nobody answers where the brokers were, and then they are back."""

    page, biller = "broker-lost", "acme"

    def plant(self) -> dict[str, str]:
        self.terminal.environment["BILLBUS_BOOTSTRAP"] = NOBODY
        return {}

    def the_brokers_are_back(self) -> None:
        self.terminal.environment["BILLBUS_BOOTSTRAP"] = self.sides.stack.bootstrap


class LostOffsets(Situation):
    """The group of a lane was deleted while its service was down, and the service is up again."""

    page, biller = "lost-offsets", "acme"

    def plant(self) -> dict[str, str]:
        self.customer = self.sides.customer()
        before = self.sides.payment(InvoiceNumber=self.customer.invoice)
        assert self.sides.pay(before).status_code == 200
        self.sides.settled(before)
        self.service_stops()
        admin = AdminClient({"bootstrap.servers": self.sides.stack.bootstrap})
        admin.delete_consumer_groups([GROUP])[GROUP].result(LIMIT_S)
        self.sides.processes.launch("payments")
        until(self._halted, LIMIT_S, "the halted partitions")
        return {"BROKER": self.sides.stack.bootstrap}

    def _halted(self) -> bool:
        try:
            return self.sides.metric("payments", "billbus_lane_halted") >= 12
        except httpx.TransportError:
            return False

    def service_stops(self) -> None:
        self.sides.processes.stop("payments")

    def service_starts(self) -> None:
        self.sides.processes.start("payments")

    def clear(self) -> None:
        if self.sides.processes.ready("payments"):
            return
        self.service_stops()
        places = [
            TopicPartition(topic, number, 0)
            for topic in (PaymentReceived.TOPIC, PaymentReceived.TOPIC + REPLAY)
            for number in range(12)
        ]
        asked = [ConsumerGroupTopicPartitions(GROUP, places)]
        admin = AdminClient({"bootstrap.servers": self.sides.stack.bootstrap})
        for each in admin.alter_consumer_group_offsets(asked).values():
            each.result(LIMIT_S)
        self.service_starts()


class ServiceEnds(Situation):
    """An address in a service's settings that is none."""

    page, biller = "service-ends", "acme"
