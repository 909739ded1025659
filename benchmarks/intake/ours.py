"""The payments service without its lane, so that what is measured beside a plain endpoint is the intake."""

from dataclasses import replace

from services.bus.service import Bus, Service, run
from services.bus.settings import load_settings
from services.payments.app import build


def build_intake(bus: Bus) -> Service:
    return replace(build(bus), lanes=(), clocks=())


if __name__ == "__main__":
    run(build_intake, load_settings(service="payments"))
