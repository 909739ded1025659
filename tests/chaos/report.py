"""What a person sees of a storm, and the same as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.chaos.verdict import Line, Verdict

SHOWN = 20


def show(console: Console, verdict: Verdict) -> None:
    """The table by fault, the settings, and what does not hold."""
    table = Table(title="By fault (payments; stalls in seconds)", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("fault", no_wrap=True)
    titles = ("times", "injected", "accepted", "in the\nledger", "lost", "doubled", "order\nviolations")
    for title in (*titles, "parked", "of which\nplanted", "longest\nstall", "where in\ndoubt"):
        table.add_column(title, justify="right", no_wrap=True)
    for line in verdict.lines:
        table.add_row(*_cells(line))
    table.add_section()
    table.add_row(*_cells(total(verdict)))
    console.print(table)
    console.print(
        f"settings: {', '.join(f'{name} {count}' for name, count in sorted(verdict.settings.items()))};"
        f" further records of the same payment {verdict.copies}; dead letters {verdict.dead_letters}",
        highlight=False,
    )
    sums = total(verdict)
    console.print(f"longest stall: {sums.stalled}; in doubt: {sums.stalled_in_doubt}", highlight=False)
    if not verdict.problems:
        console.print("[bold green]Nothing lost, nothing doubled, nothing out of order.[/]")
    kinds = Counter(problem.partition(":")[0] for problem in verdict.problems)
    for title, wrong in ((f"do not hold {dict(kinds)}", verdict.problems), ("took too long", verdict.stalls)):
        if wrong:
            console.print(f"[bold red]{len(wrong)} {title}:[/]", highlight=False)
        for problem in wrong[:SHOWN]:
            console.print(f"  {problem}", highlight=False, markup=False)


def total(verdict: Verdict) -> Line:
    """All faults together; of stalls the longest."""
    sums = Line("all")
    for line in verdict.lines:
        for name in ("windows", "injected", "accepted", "in_ledger", "lost", "doubled", "disorder", "parked"):
            setattr(sums, name, getattr(sums, name) + getattr(line, name))
        sums.planted += line.planted
        sums.stall(line.stall_s, line.stalled, in_doubt=False)
        sums.stall(line.in_doubt_s, line.stalled_in_doubt, in_doubt=True)
    return sums


def as_json(verdict: Verdict, **about: Any) -> dict[str, Any]:
    """The whole verdict, with what it is about (seed, length, ...)."""
    return {
        **about,
        "holds": verdict.holds,
        "total": asdict(total(verdict)),
        "faults": [asdict(line) for line in verdict.lines],
        "settings": dict(verdict.settings),
        "copies": verdict.copies,
        "dead_letters": verdict.dead_letters,
        "problems": verdict.problems,
        "stalls": verdict.stalls,
    }


def _cells(line: Line) -> list[str]:
    counts = (line.windows, line.injected, line.accepted, line.in_ledger)
    wrong = (line.lost, line.doubled, line.disorder)
    stalls = (line.stall_s, line.in_doubt_s)
    return [
        line.fault,
        *(f"{count:,}" for count in counts),
        *(f"[bold red]{count:,}[/]" if count else "0" for count in wrong),
        f"[bold red]{line.parked + line.planted:,}[/]" if line.parked else f"{line.planted:,}",
        f"{line.planted:,}",
        *(f"{stall:.1f}" if stall else "-" for stall in stalls),
    ]
