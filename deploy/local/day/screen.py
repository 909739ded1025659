"""What a person sees: bars while the day goes on, and the table at its end."""

from __future__ import annotations

import time
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.local.day.batches import BatchLine
from deploy.local.day.judge import IN_LEDGER, Line, Verdict

TITLES = {
    "invoices": "invoices, BIF to IC",
    "payments": "payments, IC to IMT",
    "unsupported": "of other products",
    "repeats": "exact repeats",
    "settings": "settings changed",
    "rtdr": "balances asked for",
    "links": "bill links opened",
    "refusals": "not supported",
}
SHOWN_PROBLEMS = 40


class Screen:
    """`with` it; bars only on a terminal, notes everywhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def note(self, text: str) -> None:
        self.console.print(f"[dim]{self.elapsed_s:6.1f} s[/]  {text}", highlight=False)

    def bar(self, name: str, done: int, total: int) -> None:
        """Shows how far something is; the first call makes its bar."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done, total=total)


def show(console: Console, verdict: Verdict) -> None:
    """The table, the batches, and what does not add up."""
    console.print()
    console.print(flow_table(verdict.lines))
    console.print(money_table(verdict.lines))
    for line in verdict.lines:
        if line.names:
            named = ", ".join(f"{name} {count}" for name, count in sorted(line.names.items()))
            console.print(f"[dim]{TITLES[line.flow]}, by name:[/] {named}", highlight=False)
    console.print(batch_table(verdict.batches))
    if verdict.adds_up:
        console.print("[bold green]Everything adds up, to the cent.[/]")
        return
    console.print(f"[bold red]{len(verdict.problems)} things do not add up:[/]")
    for problem in verdict.problems[:SHOWN_PROBLEMS]:
        console.print(f"  {problem}", highlight=False, markup=False)
    if len(verdict.problems) > SHOWN_PROBLEMS:
        console.print(f"  and {len(verdict.problems) - SHOWN_PROBLEMS} more")


def flow_table(lines: list[Line]) -> Table:
    """How many of each: accepted is what stands in the ledger, is parked, superseded or needs nothing."""
    table = Table(title="The business day", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("flow", no_wrap=True)
    for column in ("sent", "refused\nby name", "accepted", "in the\nledger", "parked"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("super-\nseded", "nothing\nto do", "lost", "doubled"):
        table.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        in_ledger = str(line.at_partner) if line.flow in IN_LEDGER else "-"
        counts = (
            line.sent,
            line.refused,
            line.accepted,
            in_ledger,
            line.parked,
            line.superseded,
            line.nothing,
        )
        table.add_row(TITLES[line.flow], *map(str, counts), _alarming(line.lost), _alarming(line.doubled))
    return table


def money_table(lines: list[Line]) -> Table:
    """The same in USD."""
    table = Table(title="In USD", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("flow", no_wrap=True)
    for column in ("accepted", "in the ledger", "parked", "superseded", "difference"):
        table.add_column(column, justify="right", no_wrap=True)
    for line in (line for line in lines if line.flow in ("invoices", "payments", "unsupported")):
        elsewhere = line.parked_amount + line.superseded_amount + line.nothing_amount
        difference = line.said_amount - line.partner_amount - elsewhere
        table.add_row(
            TITLES[line.flow],
            f"{line.said_amount:,}",
            f"{line.partner_amount:,}",
            f"{line.parked_amount:,}",
            f"{line.superseded_amount:,}",
            f"[bold red]{difference:,}[/]" if difference else f"{difference:,}",
        )
    return table


def batch_table(lines: list[BatchLine]) -> Table:
    """What batch.closed says, beside what was accepted and where it stands."""
    table = Table(title="Batches closed at the cut-off, in USD", title_justify="left", box=SIMPLE_HEAD)
    for column in ("biller", "day"):
        table.add_column(column, no_wrap=True)
    titles = ("payments", "batch.closed", "accepted", "at IMT", "not posted", "fees", "after it", "adds up")
    for column in titles:
        table.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(
            line.biller,
            str(line.day),
            str(line.closed.count),
            f"{line.closed.amount:,}",
            f"{line.accepted.amount:,}",
            f"{line.posted:,}",
            f"{line.not_posted:,}",
            f"{line.closed.fee:,}",
            str(line.after.count),
            "[green]yes[/]" if line.adds_up else "[red]no[/]",
        )
    return table


def _alarming(count: int) -> str:
    return f"[bold red]{count}[/]" if count else "0"
