"""What operators have paused: whole in every replica, kept on a topic, so that a restart changes nothing."""

from services.bus.views import View
from services.events import PauseCurrent, PausedLane

ALL = "-"
"""Stands for every biller, or for everything that calls a biller's partners."""


class Pauses(View[PauseCurrent]):
    """Says of a lane, a clock's name or ALL whether it may call a biller's partners now."""

    def __init__(self) -> None:
        self._paused: dict[str, tuple[PausedLane, ...]] = {}
        super().__init__(reads=PauseCurrent, apply=self.take)

    def take(self, current: PauseCurrent) -> None:
        if current.paused:
            self._paused[current.biller] = current.paused
        else:
            self._paused.pop(current.biller, None)

    def why(self, biller: str, lane: str = ALL) -> PausedLane | None:
        """The pause that holds for the lane of a biller, or None; with ALL only one of everything."""
        if not self._paused:
            return None
        for whose in (biller, ALL):
            for pause in self._paused.get(whose, ()):
                if pause.lane in (lane, ALL):
                    return pause
        return None

    def of(self, biller: str) -> tuple[PausedLane, ...]:
        """What is written for a biller, or for ALL of them."""
        return self._paused.get(biller, ())
