"""A biller that a person names on the command line."""

from pathlib import Path

from services.bus.billers import Biller, read_biller
from services.bus.secrets import Secrets
from services.bus.settings import ConfigurationError
from services.bus.support import SupportMatrix
from services.cli.output import WRONG_USE, stop


def named_biller(folder: Path, slug: str, partners: Path) -> Biller:
    """The biller by its file alone: no secret and no partner is needed."""
    path = folder / f"{slug}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in folder.glob("*.yaml")))
        stop(WRONG_USE, f"There is no biller {slug!r}; known are {known}.")
    found, problems = read_biller(path, Secrets(), SupportMatrix.load(partners / "support.yaml"))
    if found is None:
        raise ConfigurationError([f"{path}: {problem}" for problem in problems])
    return found
