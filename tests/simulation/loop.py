"""An event loop in which nothing ever waits, and processes that can be stopped or killed at any await."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from heapq import heappush
from typing import Any, TypeVarTuple

Ts = TypeVarTuple("Ts")


class Stuck(Exception):
    """Nothing is due, now or later, although somebody still waits."""


class Process:
    """What runs in it runs only while it is neither frozen nor dead; killed, it just stops, in mid-air."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.dead = False
        self.steps_left: int | None = None
        self.held: list[asyncio.Handle] = []

    def lets_run(self, handle: asyncio.Handle) -> bool:
        if self.steps_left is not None and not self.frozen:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.dead = True
        if self.dead or self.frozen:
            self.held.append(handle)
            return False
        return True


PROCESS: ContextVar[Process | None] = ContextVar("simulated_process", default=None)
"""Whose code is running; None where the world itself acts."""


class _Step(asyncio.Handle):
    """One callback of a process."""

    process: Process

    def _run(self) -> None:
        if self.process.lets_run(self):
            super()._run()


class _TimedStep(asyncio.TimerHandle):
    """The same, due at an instant."""

    process: Process
    _scheduled: bool

    def _run(self) -> None:
        if self.process.lets_run(self):
            super()._run()


class VirtualLoop(asyncio.BaseEventLoop):
    """Time jumps to whatever is due next. `world_context` is for what no process does."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__()
        self._at = 0.0
        self._selector = self
        self._clock_resolution = 1e-9
        self.world_context = Context()
        self.tasks: list[asyncio.Task[Any]] = []
        self.complaints: list[str] = []
        self.set_task_factory(self._new_task)  # type: ignore[arg-type]  # it takes what a task takes
        self.set_exception_handler(self._complain)

    def time(self) -> float:
        return self._at

    def select(self, timeout: float | None) -> list[Any]:
        """Takes the place of waiting for sockets."""
        if timeout is None:
            raise Stuck
        if timeout > 0:
            self._at += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        process = _process_of(context)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        handle = _Step(callback, args, self, context)
        handle.process = process
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        process = _process_of(context)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        timer = _TimedStep(when, callback, args, self, context)
        timer.process = process
        heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def later(self, delay_s: float, callback: Callable[[*Ts], object], *args: *Ts) -> asyncio.TimerHandle:
        """Something that the world does, whatever becomes of the process that set it off."""
        return self.call_later(delay_s, callback, *args, context=self.world_context)

    def thaw(self, process: Process) -> None:
        """All that became due meanwhile runs now, in its order."""
        process.frozen = False
        self._ready.extend(process.held)
        process.held = []

    def _new_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **how: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **how)
        self.tasks.append(task)
        return task

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self.complaints.append(f"{context['message']}: {context.get('exception')!r}")

    def end(self, processes: list[Process]) -> None:
        """Unwinds whatever still runs, the killed as well, so that nothing is left to the collector."""
        for task in self.tasks:
            task.cancel()
        for process in processes:
            process.dead, process.steps_left = False, None
            self.thaw(process)
        self.run_until_complete(asyncio.gather(*self.tasks, return_exceptions=True))
        self.close()


def _process_of(context: Context | None) -> Process | None:
    return PROCESS.get() if context is None else context.get(PROCESS)
