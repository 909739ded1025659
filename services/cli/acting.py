"""What every command shares that changes something: shown first, done with --yes, and only with a reason."""

import getpass
from typing import Annotated

import typer

from services.bus.settings import Settings
from services.cli.output import WRONG_USE, stop

Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, only show what would be done.")]
Reason = Annotated[
    str, typer.Option("--reason", help="Why, for the audit record; needed with --yes. No personal data.")
]
LONGEST_REASON = 500


def operator_of(settings: Settings) -> str:
    """Under which name an act is recorded."""
    return settings.operator or getpass.getuser()


def require_reason(*, yes: bool, reason: str) -> None:
    """Ends the command where something is to be done and nobody says why."""
    if yes and not reason.strip():
        stop(WRONG_USE, 'Say why, for the audit record: --reason "IMT restored last night\'s backup".')
    if len(reason) > LONGEST_REASON:
        stop(WRONG_USE, f"--reason has {len(reason)} characters; {LONGEST_REASON} are the most.")
