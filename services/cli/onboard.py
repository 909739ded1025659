"""`billbus onboard`: a new biller, from the questions to the list for go-live."""

import asyncio
import difflib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import PORTS, Settings, load_settings
from services.bus.support import SupportMatrix
from services.cli.acting import Reason, Yes, operator_of, require_reason
from services.cli.output import FINE, FOUND, WRONG_USE, AsJson, print_json, print_table, stop
from services.operations import onboard
from services.operations.audit import Act, auditing
from services.operations.onboard import Onboarding
from services.operations.onboard_questions import REQUIRED, SUGGESTED, is_asked, put, questions, switches
from services.operations.onboard_trial import NotTried, Tried, account_for, try_out

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

    Exit code 0: done, or would be; 1: something is wrong or missing; 2: wrong use; 3: unreachable.
    """
    settings = load_settings()
    require_reason(yes=yes, reason=reason)
    folder = to or settings.billers
    if not folder.is_dir():
        stop(WRONG_USE, f"--to: {folder} is no folder.")
    support = SupportMatrix.load(settings.partners / "support.yaml")
    made = onboard.prepare(settings, support, _answers(support, source, as_json), folder)
    if made.problems:
        stop(FOUND, *(f"{made.slug or 'The answers'}: {problem}" for problem in made.problems))
    found, tried, why = asyncio.run(
        _run(settings, made, yes=yes, reason=reason, sandbox=sandbox, invoices=invoices, account=account)
    )
    left = onboard.left_for_a_person(settings, made)
    if as_json:
        print_json(_told(made, found, tried, why, left, written=yes and made.state != "unchanged"))
    else:
        _show(made, found, tried, why, left, yes=yes)
    good = all(state == "answers" for _, state in found) and not made.missing
    good = good and (not yes or (bool(tried) and all(each.state == "posted" for each in tried)))
    raise SystemExit(FINE if good else FOUND)


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
        print(f"\n{question.path}: {question.text}")
        default = None if question.default is REQUIRED else question.default
        if question.path in SUGGESTED:
            default = str(default).format(slug=answers.get("slug", ""))
        while True:
            said = typer.prompt(question.path.rpartition(".")[2], default=default)
            try:
                question.check(said)
                break
            except ValueError as error:
                print(f"  {error}")
        put(answers, question.path, _plain(said))
    for path, text in switches(support):
        put(answers, path, typer.confirm(f"\n{path}: {text}\nSwitch it on?", default=False))
    return answers


def _plain(said: Any) -> Any:
    """As YAML holds it: words for yes and no, and whole numbers; all else stays what was typed."""
    words = {"true": True, "yes": True, "false": False, "no": False}
    if isinstance(said, str):
        return words.get(said.lower(), int(said) if said.isascii() and said.isdigit() else said)
    return said


async def _run(
    settings: Settings,
    made: Onboarding,
    *,
    yes: bool,
    reason: str,
    sandbox: str,
    invoices: str,
    account: str,
) -> tuple[list[tuple[str, str]], list[Tried], str]:
    """What each partner service says, what came of the trial, and why there was none."""
    clock, biller = Clock(), made.biller
    if biller is None:  # prepare has told why
        return [], [], ""
    if not yes:
        return await _partners(settings, made, clock), [], "without --yes nothing is sent"
    act = Act(
        operator=operator_of(settings), action="onboard", target=made.slug, reason=reason, biller=made.slug
    )
    async with auditing(settings, load_catalog(settings.schemas), clock) as audit:
        await audit.told(act, "begun")
        if made.state != "unchanged":
            onboard.write(made)
        tried: list[Tried] = []
        found, why = await _partners(settings, made, clock), ""
        if made.missing:
            why = "its secrets are not all there yet"
        else:
            try:
                number = account_for(biller, account)
                tried = await try_out(
                    settings, biller, clock, sandbox=sandbox, invoices=invoices, account=number
                )
            except NotTried as error:
                why = str(error)
        ended = ", ".join(f"{each.what} {each.state}" for each in tried) or "not tried"
        await audit.told(act, f"file {made.state}; {ended}")
    return found, tried, why


async def _partners(settings: Settings, made: Onboarding, clock: Clock) -> list[tuple[str, str]]:
    if made.biller is None or made.missing:
        return []
    answers = await onboard.ask_its_partners(settings, made.biller, clock)
    return [(name, each.trouble.reason if each.trouble else "answers") for name, each in answers.items()]


def _told(
    made: Onboarding,
    found: Sequence[tuple[str, str]],
    tried: Sequence[Tried],
    why: str,
    left: Sequence[str],
    *,
    written: bool,
) -> dict[str, Any]:
    return {
        "biller": made.slug,
        "file": str(made.path),
        "state": made.state,
        "written": written,
        "secrets_missing": sorted(made.missing.values()),
        "partners": dict(found),
        "tried": [asdict(each) for each in tried],
        "not_tried": why or None,
        "left": list(left),
    }


def _show(
    made: Onboarding,
    found: Sequence[tuple[str, str]],
    tried: Sequence[Tried],
    why: str,
    left: Sequence[str],
    *,
    yes: bool,
) -> None:
    if made.state == "unchanged":
        print(f"{made.path} is as the answers say; it is left alone")
    elif yes:
        print(f"{made.path} is written")
    else:
        print(
            f"{made.path} would be {'written' if made.state == 'new' else 'replaced'}; add --yes to do it\n"
        )
        _show_text(made)
    if found:
        print_table("Its partners, asked for what nobody has", ["service", "answer"], found)
    if tried:
        rows = [(each.what, each.id, each.state, each.reason or "") for each in tried]
        print_table("Tried through the sandbox", ["", "id", "outcome", "reason"], rows)
    elif why:
        print(f"Not tried through the sandbox: {why}")
    print("\nLeft for a person, in this order:\n")
    print("\n".join(f"{number:2}. {each}" for number, each in enumerate(left, 1)))


def _show_text(made: Onboarding) -> None:
    """The file, or how the one that is there would change."""
    if made.state == "new":
        print(made.text)
        return
    before = made.path.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(difflib.unified_diff(before, made.text.splitlines(), "as it is", "as it would be", "")))
