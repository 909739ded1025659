"""An overlay on fake nodes: rolled out, scaled to every ScaledObject's maximum, drained node by node.

Pods, volumes and the network are not real; scheduling, spread, disruption budgets and controllers are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from deploy.k8s.check.admission import prepare
from deploy.k8s.check.control_plane import ControlPlane
from deploy.k8s.check.kubectl import Kubectl, Manifest
from deploy.local.errors import LocalError
from deploy.local.ports import free_port

NODES = 3
ROOM = {"cpu": "8", "memory": "32Gi", "pods": "110"}
STEP_S = 120.0
VOLUMES = 60
"""More than claims at every maximum; no provisioner makes them here."""
WORKLOADS = "deployments.apps,statefulsets.apps"


def roll_out(
    plane: ControlPlane, objects: list[Manifest], policies: list[Manifest], limit_s: float = STEP_S
) -> list[str]:
    """What got stuck for longer than `limit_s`, and why; nothing where all went well."""
    kubectl = plane.kubectl
    _nodes(plane)
    [namespace] = [each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"]
    kubectl.must("apply", "--server-side", "-f", "-", given=policies)
    prepare(kubectl, objects)
    kubectl.must("apply", "--server-side", "--force-conflicts", "-f", "-", given=objects)
    settled = _Settled(plane, namespace, limit_s)
    try:
        settled.wait("rolling out")
        _scale(kubectl, namespace, objects)
        settled.wait("scaling to every maximum")
        for number in range(1, NODES + 1):
            _drain(kubectl, f"node-{number}", limit_s)
            settled.wait(f"draining node-{number}")
            kubectl.must("uncordon", f"node-{number}")
    except LocalError as stuck:
        return [str(stuck), *_reasons(kubectl, namespace)]
    print(f"settled  {settled.pods} pods at most, every node drained once")
    return []


class _Settled:
    """Waits until every workload has as many ready pods as it wants."""

    def __init__(self, plane: ControlPlane, namespace: str, limit_s: float) -> None:
        self._plane, self._namespace, self._limit_s = plane, namespace, limit_s
        self.pods = 0

    def wait(self, doing: str) -> None:
        self._plane.until(doing, self._all_ready, self._limit_s)

    def _all_ready(self) -> bool:
        found = self._plane.kubectl.listed(WORKLOADS, "-n", self._namespace)
        self.pods = max(self.pods, sum(each["spec"]["replicas"] for each in found))
        return bool(found) and all(map(_ready, found))


def _ready(workload: Manifest) -> bool:
    spec, status = workload["spec"], workload.get("status", {})
    seen = status.get("observedGeneration", 0) >= workload["metadata"]["generation"]
    return bool(seen and status.get("readyReplicas", 0) == status.get("replicas", 0) == spec["replicas"])


def _scale(kubectl: Kubectl, namespace: str, objects: list[Manifest]) -> None:
    for each in objects:
        if each["kind"] == "ScaledObject":
            target = each["spec"]["scaleTargetRef"]
            name = f"{target.get('kind', 'Deployment').lower()}/{target['name']}"
            count = each["spec"]["maxReplicaCount"]
            kubectl.must("scale", "-n", namespace, name, f"--replicas={count}")


def _drain(kubectl: Kubectl, node: str, limit_s: float) -> None:
    kubectl.must(
        "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", f"--timeout={limit_s:g}s"
    )


def _reasons(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """What the events say, and who is not ready: the last few."""
    events = kubectl.listed("events", "-n", namespace, "--field-selector=type=Warning")
    yield from sorted({f"{each['involvedObject']['name']}: {each['message']}" for each in events})[-6:]
    for each in kubectl.listed(WORKLOADS, "-n", namespace):
        if not _ready(each):
            ready = each.get("status", {}).get("readyReplicas", 0)
            yield f"{each['metadata']['name']}: {ready} of {each['spec']['replicas']} are ready"


def _nodes(plane: ControlPlane) -> None:
    kubectl, config = plane.kubectl, f"--kubeconfig={plane.folder}/kubeconfig"
    plane.launch(
        "kube-controller-manager",
        [
            config,
            "--leader-elect=false",
            "--secure-port=0",
            f"--service-account-private-key-file={plane.folder}/sa.key",
            f"--root-ca-file={plane.folder}/certs/apiserver.crt",
        ],
    )
    plane.launch("kube-scheduler", [config, "--leader-elect=false", "--secure-port=0"])
    plane.launch(
        "kwok",
        [
            config,
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=40",
            f"--server-address=127.0.0.1:{free_port()}",
        ],
    )
    for number in range(1, NODES + 1):
        kubectl.must("apply", "--server-side", "-f", "-", given=[_node(number)])
        status = json.dumps({"status": {"capacity": ROOM, "allocatable": ROOM}})
        kubectl.must("patch", "node", f"node-{number}", "--subresource=status", "--type=merge", "-p", status)
    kubectl.must("apply", "--server-side", "-f", "-", given=[STORAGE, *map(_volume, range(VOLUMES))])
    plane.until(
        "fake nodes",
        lambda: kubectl.ask("wait", "--for=condition=Ready", "--timeout=2s", "nodes", "--all").ok,
    )


def _node(number: int) -> Manifest:
    name = f"node-{number}"
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/zone": f"zone-{number}",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


STORAGE: Manifest = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "made-by-hand",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "kubernetes.io/no-provisioner",
    "volumeBindingMode": "WaitForFirstConsumer",
}


def _volume(number: int) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"volume-{number}"},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "made-by-hand",
            "hostPath": {"path": f"/nowhere/{number}"},
        },
    }
