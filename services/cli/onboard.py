"""`billbus onboard`: a new biller, from the questions to the list for go-live."""

import asyncio
import difflib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer

from services.bus.clock import Clock
from services.bus.settings import PORTS, load_settings
from services.bus.support import SupportMatrix
from services.cli.acting import Reason, Yes, operator_of, require_reason
from services.cli.output import FINE, FOUND, WRONG_USE, AsJson, print_json, print_table, stop
from services.operations import onboard
from services.operations.onboard import Onboarding
from services.operations.onboard_acting import Report, Trial, act, look
from services.operations.onboard_questions import REQUIRED, SUGGESTED, is_asked, put, questions, switches

EXAMPLES = """Two examples:

  billbus onboard --from answers.yaml

  billbus onboard --from answers.yaml --yes --reason "Dune Mutual goes live"
"""


def onboard_biller(
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Answers, in the shape of a biller's file; default: you are asked."),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder of the file; default: BILLBUS_BILLERS.")] = None,
    sandbox: Annotated[
        str, typer.Option(help="Where the sandbox is.", envvar="BILLBUS_SANDBOX_URL")
    ] = f"http://127.0.0.1:{PORTS['sandbox']}",
    invoices: Annotated[
        str, typer.Option(help="Where the invoices service is.", envvar="BILLBUS_INVOICES_URL")
    ] = f"http://127.0.0.1:{PORTS['invoices']}",
    account: Annotated[str, typer.Option(help="The account of the trial; nobody's.")] = "",
    yes: Yes = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Add a biller: its file, a call to each partner, an invoice and a payment.

    The invoice and the payment go through the sandbox alone. Without --yes nothing is written or sent; with
    it a file that is there and differs is replaced.

    Exit code 0: all is well; 1: something is wrong or missing; 2: wrong use; 3: unreachable.
    """
    settings, clock = load_settings(), Clock()
    require_reason(yes=yes, reason=reason)
    folder = to or settings.billers
    if not folder.is_dir():
        stop(WRONG_USE, f"--to: {folder} is no folder.")
    support = SupportMatrix.load(settings.partners / "support.yaml")
    made = onboard.prepare(settings, support, _answers(support, source, as_json), folder)
    if made.problems:
        stop(FOUND, *(f"{made.slug or 'The answers'}: {problem}" for problem in made.problems))
    if source is None and not yes:  # what was answered would be lost
        yes = typer.confirm(f"\nWrite {made.path} and try it out?", default=False)
        reason = typer.prompt("Why, for the audit record") if yes else ""
        require_reason(yes=yes, reason=reason)
    if yes:
        trial = Trial(sandbox=sandbox, invoices=invoices, account=account)
        acting = act(settings, made, clock, trial, operator=operator_of(settings), reason=reason)
        report = asyncio.run(acting)
    else:
        report = asyncio.run(look(settings, made, clock))
    left = onboard.left_for_a_person(settings, made)
    if as_json:
        print_json(_told(made, report, left, written=yes and made.state != "unchanged"))
    else:
        _show(made, report, left, yes=yes)
    raise SystemExit(FINE if report.good and (report.tried or not yes) else FOUND)


def _answers(support: SupportMatrix, source: Path | None, as_json: bool) -> dict[str, Any]:
    if source is not None:
        try:
            return onboard.read_answers(source)
        except ValueError as error:
            stop(WRONG_USE, f"--from: {error}.")
    if as_json or not sys.stdin.isatty():
        stop(WRONG_USE, "Nobody can be asked here; give the answers in a file: --from answers.yaml.")
    return _ask(support)


def _ask(support: SupportMatrix) -> dict[str, Any]:
    """The interview: one question a field, asked again until its answer fits."""
    answers: dict[str, Any] = {}
    for question in (each for each in questions() if is_asked(each)):
        print("\n" + _wrapped(f"{question.path}: {question.text}"))
        default = None if question.default is REQUIRED else question.default
        if question.path in SUGGESTED:
            default = str(default).format(slug=answers.get("slug", ""))
        while True:
            said = _plain(typer.prompt(question.path.rpartition(".")[2], default=default))
            try:
                question.check(said)
                break
            except ValueError as error:
                print(f"  {error}")
        put(answers, question.path, said)
    for path, text in switches(support):
        print("\n" + _wrapped(f"{path}: {text}"))
        put(answers, path, typer.confirm("Switch it on?", default=False))
    return answers


def _plain(said: Any) -> Any:
    """As YAML holds it: words for yes and no are truth values, all else stays what was typed."""
    words = {"true": True, "yes": True, "y": True, "false": False, "no": False, "n": False}
    return words.get(said.lower(), said) if isinstance(said, str) else said


def _told(made: Onboarding, report: Report, left: Sequence[str], *, written: bool) -> dict[str, Any]:
    return {
        "biller": made.slug,
        "file": str(made.path),
        "state": made.state,
        "written": written,
        "secrets_missing": sorted(made.missing.values()),
        "partners": report.partners,
        "tried": [asdict(each) for each in report.tried],
        "not_tried": report.not_tried or None,
        "left": list(left),
    }


def _show(made: Onboarding, report: Report, left: Sequence[str], *, yes: bool) -> None:
    if made.state == "unchanged":
        print(f"{made.path} is as the answers say; it is left alone")
    elif yes:
        print(f"{made.path} is written")
    else:
        print(
            f"{made.path} would be {'written' if made.state == 'new' else 'replaced'}; add --yes to do it\n"
        )
        _show_text(made)
    if report.partners:
        print_table("Its partners", ["service", "answer"], report.partners.items())
    if report.tried:
        rows = [(each.what, each.id, each.state, each.reason or "") for each in report.tried]
        print_table("Tried through the sandbox", ["", "id", "outcome", "reason"], rows)
    else:
        print(_wrapped(f"Not tried through the sandbox: {report.not_tried}"))
    print("\nLeft for a person, in this order:\n")
    print("\n".join(_wrapped(each, f"{number:2}. ") for number, each in enumerate(left, 1)))


def _wrapped(text: str, first: str = "") -> str:
    """Lines that fit the terminal; as they are where stdout is none."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(first + text) + 1
    lines = wrap(
        text, width, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False
    )
    return "\n".join(lines)


def _show_text(made: Onboarding) -> None:
    """The file, or how the one that is there would change."""
    if made.state == "new":
        print(made.text)
        return
    before = made.path.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(difflib.unified_diff(before, made.text.splitlines(), "as it is", "as it would be", "")))
