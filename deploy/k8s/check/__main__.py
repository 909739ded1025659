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
from deploy.k8s.check.planted import Planted, load_planted
from deploy.k8s.check.programs import build
from deploy.k8s.check.references import broken
from deploy.k8s.check.rollout import roll_out
from deploy.local.errors import LocalError

K8S = Path(__file__).parents[1]
OVERLAYS = ("dev", "prod")
WITH_ERRORS = "prod"


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
            for name in OVERLAYS:
                with started(programs) as plane:
                    wrong += roll_out(plane, K8S / "overlays" / name, K8S / "policy")
    except LocalError as error:
        print(error, file=sys.stderr)
        return 2
    for sentence in wrong:
        print(f"WRONG {sentence}", file=sys.stderr)
    print(f"{'not well' if wrong else 'all well'} after {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
