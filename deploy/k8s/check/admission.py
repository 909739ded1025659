"""What the API server says to manifests: a dry run of each, and of the pod that each workload would start."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from deploy.k8s.check.kubectl import Kubectl, Manifest
from deploy.local.errors import LocalError

FIRST = ("Namespace", "ServiceAccount")
"""Kinds that admission reads, so that a dry run of the others needs them to be there."""
DRY_RUN = ("--dry-run=server", "--validate=false", "-f", "-")
"""Without kubectl's own look at the schema: it is the server that is asked."""
EFFECTIVE_S = 60.0


def template_of(workload: Manifest) -> dict[str, Any] | None:
    """The pod template of a workload, None where it has none."""
    spec = workload.get("spec", {})
    if workload["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template") if workload["kind"] in WORKLOADS else None


WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


def pod_of(workload: Manifest) -> Manifest | None:
    """The pod that a workload would start; its claims are there as volumes."""
    template = template_of(workload)
    if template is None:
        return None
    metadata = {
        **template.get("metadata", {}),
        "name": f"{workload['metadata']['name']}-{workload['kind'].lower()}",
        "namespace": workload["metadata"]["namespace"],
    }
    spec = dict(template["spec"])
    claims = [each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", ())]
    mounted = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    spec["volumes"] = [*spec.get("volumes", ()), *mounted]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def prepare(kubectl: Kubectl, objects: Sequence[Manifest]) -> None:
    """Makes for real what admission reads: namespaces, with their labels, and service accounts."""
    spaces = [each for each in objects if each["kind"] == "Namespace"]
    # the controller manager would make it; without one nothing does
    default = [_account("default", each["metadata"]["name"]) for each in spaces]
    accounts = [each for each in objects if each["kind"] == "ServiceAccount"]
    kubectl.must(
        "apply", "--server-side", "--force-conflicts", "-f", "-", given=[*spaces, *default, *accounts]
    )


def _account(name: str, namespace: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def refusals(kubectl: Kubectl, objects: Iterable[Manifest]) -> Iterator[str]:
    """Whatever the API server does not take, in its own words."""
    objects = list(objects)
    tried = kubectl.ask("apply", "--server-side", "--force-conflicts", *DRY_RUN, given=objects)
    yield from _said(tried.ok, tried.refusals)
    # a workload that breaks Pod Security only warns; its pods are refused
    pods = [pod for pod in map(pod_of, objects) if pod is not None]
    if pods:
        tried = kubectl.ask("create", *DRY_RUN, given=pods)
        yield from _said(tried.ok, tried.refusals)


def _said(ok: bool, lines: Sequence[str]) -> Iterator[str]:
    if not ok:
        yield from lines or ["refused without a word"]


def enforce(kubectl: Kubectl, policies: Sequence[Manifest], probe: Manifest, message: str) -> None:
    """Makes the policies, and waits until one refuses `probe`: they act a moment after they are there."""
    kubectl.must("apply", "--server-side", "-f", "-", given=policies)
    end = time.monotonic() + EFFECTIVE_S
    while not any(message in line for line in refusals(kubectl, [probe])):
        if time.monotonic() > end:
            raise LocalError(f"No policy refused what it should within {EFFECTIVE_S:g} s: {message}")
        time.sleep(0.5)
