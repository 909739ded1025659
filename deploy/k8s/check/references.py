"""What no API server checks: whether what one manifest names is what another one is.

Each rule yields a sentence for each name that leads nowhere. Pure: manifests in, sentences out. Their
schema is taken for right, since the API server has been asked before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deploy.k8s.check.admission import template_of
from deploy.k8s.check.kubectl import Manifest

MADE_ELSEWHERE = frozenset({"billers", "billbus-cluster-ca-cert", "keda-kafka"})
"""Secrets that are never in a repository: the billers', the cluster's authority, KEDA's user by name."""
FOREIGN = ("strimzi.io/name", "strimzi.io/cluster")
"""Labels of pods that an operator makes."""


def broken(objects: Sequence[Manifest]) -> list[str]:
    """Every reference that leads nowhere, in one order."""
    rules = (_selectors, _policies, _workload_names, _scaled, _monitored, _ports)
    return sorted({sentence for rule in rules for sentence in rule(objects)})


def _named(objects: Sequence[Manifest], kind: str) -> set[str]:
    return {each["metadata"]["name"] for each in objects if each["kind"] == kind}


def _templates(objects: Sequence[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in objects:
        template = template_of(each)
        if template is not None:
            yield _name(each), template


def _name(each: Manifest) -> str:
    return f"{each['kind']} {each['metadata']['name']}"


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects what has these labels; an empty one selects all."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions", ()):
        inside = labels.get(each["key"]) in each.get("values", ())
        holds = {"In": inside, "NotIn": not inside, "Exists": each["key"] in labels}
        if not holds[each["operator"]]:
            return False
    return True


def _selects_a_pod(objects: Sequence[Manifest], selector: Mapping[str, Any]) -> bool:
    return any(
        matches(selector, template["metadata"].get("labels", {})) for _, template in _templates(objects)
    )


def _selectors(objects: Sequence[Manifest]) -> Iterator[str]:
    for each in objects:
        if each["kind"] == "Service":
            selector = {"matchLabels": each["spec"]["selector"]}
        elif each["kind"] == "PodDisruptionBudget":
            selector = each["spec"]["selector"]
        else:
            continue
        if not _selects_a_pod(objects, selector):
            yield f"{_name(each)}: its selector selects no pod of ours"


def _policies(objects: Sequence[Manifest]) -> Iterator[str]:
    for each in objects:
        if each["kind"] != "NetworkPolicy":
            continue
        spec = each["spec"]
        peers = [
            peer["podSelector"]
            for direction, side in (("ingress", "from"), ("egress", "to"))
            for rule in spec.get(direction, ())
            for peer in rule.get(side, ())
            if "podSelector" in peer and "namespaceSelector" not in peer
        ]
        for selector in (spec["podSelector"], *peers):
            named = selector.get("matchLabels", {})
            # what is not in this overlay is let in or out for nothing, which harms nobody: the registry
            optional = named.get("app.kubernetes.io/name") == "schema-registry"
            if not optional and not set(named) & set(FOREIGN) and not _selects_a_pod(objects, selector):
                yield f"{_name(each)}: a selector selects no pod of ours: {named or selector}"


def _workload_names(objects: Sequence[Manifest]) -> Iterator[str]:
    accounts, maps = _named(objects, "ServiceAccount"), _named(objects, "ConfigMap")
    secrets = MADE_ELSEWHERE | _named(objects, "KafkaUser") | _named(objects, "Secret")
    for name, template in _templates(objects):
        spec = template["spec"]
        if spec.get("serviceAccountName") not in accounts:
            yield f"{name}: no service account {spec.get('serviceAccountName')}"
        for found, known, what in ((_maps(spec), maps, "ConfigMap"), (_secrets(spec), secrets, "Secret")):
            for missing in sorted(found - known):
                yield f"{name}: no {what} {missing}"


def _maps(spec: Mapping[str, Any]) -> set[str]:
    volumes = {each["configMap"]["name"] for each in spec.get("volumes", ()) if "configMap" in each}
    return volumes | {
        source["configMapRef"]["name"]
        for container in spec["containers"]
        for source in container.get("envFrom", ())
        if "configMapRef" in source
    }


def _secrets(spec: Mapping[str, Any]) -> set[str]:
    volumes = spec.get("volumes", ())
    whole = {each["secret"]["secretName"] for each in volumes if "secret" in each}
    return whole | {
        source["secret"]["name"]
        for each in volumes
        for source in each.get("projected", {}).get("sources", ())
        if "secret" in source
    }


def _scaled(objects: Sequence[Manifest]) -> Iterator[str]:
    topics = {
        each["metadata"]["name"]: each["spec"]["partitions"]
        for each in objects
        if each["kind"] == "KafkaTopic"
    }
    for each in objects:
        if each["kind"] != "ScaledObject":
            continue
        target = each["spec"]["scaleTargetRef"]
        kind = target.get("kind", "Deployment")
        if target["name"] not in _named(objects, kind):
            yield f"{_name(each)}: there is no {kind} {target['name']} to scale"
        for trigger in each["spec"]["triggers"]:
            topic = trigger["metadata"]["topic"]
            if topic not in topics:
                yield f"{_name(each)}: there is no topic {topic}"
            elif each["spec"]["maxReplicaCount"] > topics[topic]:
                yield f"{_name(each)}: more replicas than {topic} has partitions ({topics[topic]})"


def _monitored(objects: Sequence[Manifest]) -> Iterator[str]:
    services = [each for each in objects if each["kind"] == "Service"]
    for each in objects:
        if each["kind"] != "ServiceMonitor":
            continue
        chosen = [
            service
            for service in services
            if matches(each["spec"]["selector"], service["metadata"].get("labels", {}))
        ]
        if not chosen:
            yield f"{_name(each)}: its selector selects no service"
        for endpoint in each["spec"]["endpoints"]:
            for service in chosen:
                if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                    yield f"{_name(each)}: {_name(service)} has no port {endpoint['port']}"


def _ports(objects: Sequence[Manifest]) -> Iterator[str]:
    for name, template in _templates(objects):
        for container in template["spec"]["containers"]:
            open_ports = {port["name"] for port in container.get("ports", ())}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container.get(probe, {})
                for how in ("httpGet", "tcpSocket"):
                    port = asked.get(how, {}).get("port")
                    if isinstance(port, str) and port not in open_ports:
                        yield f"{name}: its {probe} asks port {port}, which it does not have"
    for service in (each for each in objects if each["kind"] == "Service"):
        for port in service["spec"]["ports"]:
            open_ports = {
                each["name"]
                for _, template in _templates(objects)
                if matches({"matchLabels": service["spec"]["selector"]}, template["metadata"]["labels"])
                for container in template["spec"]["containers"]
                for each in container.get("ports", ())
            }
            if open_ports and port["targetPort"] not in open_ports:
                yield f"{_name(service)}: no pod of its has a port {port['targetPort']}"
