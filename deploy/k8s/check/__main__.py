"""`make deploy-check`: every overlay before a real API server, and every planted error."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.k8s.check.admission import enforce, prepare, refusals
from deploy.k8s.check.control_plane import ControlPlane
from deploy.k8s.check.kubectl import Kubectl, Manifest
from deploy.k8s.check.planted import STUCK, Planted, load_planted
from deploy.k8s.check.programs import build
from deploy.k8s.check.references import broken
from deploy.k8s.check.rollout import roll_out
from deploy.local.errors import LocalError

K8S = Path(__file__).parents[1]
OVERLAYS = ("dev", "prod")
WITH_ERRORS = "prod"
STUCK_S = 40.0
"""After which a planted error counts as stuck; what goes well takes half of it."""


def check(kubectl: Kubectl) -> Iterator[str]:
    """Asks for every overlay and every planted error; yields what is not as it should be."""
    overlays = {name: kubectl.rendered(K8S / "overlays" / name) for name in OVERLAYS}
    for objects in overlays.values():
        prepare(kubectl, objects)
    errors = load_planted()
    policies = kubectl.rendered(K8S / "policy")
    first = next(each for each in errors if each.name == "no limit of memory")
    enforce(kubectl, policies, first.into(overlays[WITH_ERRORS])[1], first.says)
    for name, objects in overlays.items():
        found = refused(kubectl, objects, objects)
        print(f"{'REFUSED ' if found else 'accepted'} {name}: {len(objects)} objects")
        yield from (f"{name}: {sentence}" for sentence in found)
    for error in errors:
        yield from _must_be_refused(kubectl, error, overlays[WITH_ERRORS])


def refused(kubectl: Kubectl, sent: Sequence[Manifest], everything: Sequence[Manifest]) -> list[str]:
    """What the API server does not take of `sent`; where it takes all, what leads nowhere in `everything`."""
    return list(refusals(kubectl, sent)) or broken(everything)


def _must_be_refused(kubectl: Kubectl, error: Planted, objects: Sequence[Manifest]) -> Iterator[str]:
    everything, changed = error.into(objects)
    found = refused(kubectl, [changed], everything)
    said = next((sentence for sentence in found if error.says in sentence), None)
    if said is None:
        yield f"{error} was not refused with {error.says!r}, but with {found}"
    else:
        print(f"refused  {error}: {said[-160:]}")


def check_rollouts(programs: Path) -> list[str]:
    """Rolls every overlay out, each on fake nodes of its own, and each error that must get stuck."""
    wrong: list[str] = []
    for name in OVERLAYS:
        with started(programs) as plane:
            print(f"rolling out {name} ...")
            objects, policies = rendered(plane.kubectl, name)
            wrong += [f"{name}: {line}" for line in roll_out(plane, objects, policies)]
    for error in load_planted(STUCK):
        with started(programs) as plane:
            objects, policies = rendered(plane.kubectl, WITH_ERRORS)
            found = roll_out(plane, error.into(objects)[0], policies, STUCK_S)
        if any(error.says in line for line in found):
            print(f"stuck    {error}: {found[0].splitlines()[0]}")
        else:
            wrong.append(f"{error} did not get stuck at {error.says!r}, but {found}")
    return wrong


def rendered(kubectl: Kubectl, overlay: str) -> tuple[list[Manifest], list[Manifest]]:
    """The objects of an overlay, and the policies."""
    return kubectl.rendered(K8S / "overlays" / overlay), kubectl.rendered(K8S / "policy")


@contextmanager
def started(programs: Path) -> Iterator[ControlPlane]:
    """A control plane that knows nothing yet; ended and forgotten when left."""
    with (
        tempfile.TemporaryDirectory(prefix="billbus-k8s-") as folder,
        ControlPlane(programs, Path(folder)) as plane,
    ):
        yield plane


def main() -> int:
    parser = argparse.ArgumentParser(prog="make deploy-check", description=__doc__)
    parser.add_argument("--rollout", action="store_true", help="also roll out, scale and drain on fake nodes")
    chosen = parser.parse_args()
    began = time.monotonic()
    try:
        programs = build(nodes=chosen.rollout)
        with started(programs) as plane:
            wrong = list(check(plane.kubectl))
        if chosen.rollout:
            wrong += check_rollouts(programs)
    except LocalError as error:
        print(error, file=sys.stderr)
        return 2
    for sentence in wrong:
        print(f"WRONG {sentence}", file=sys.stderr)
    print(f"{'not well' if wrong else 'all well'} after {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
