"""What deploy/k8s/check finds without an API server: names that lead nowhere; and planting errors."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.k8s.check.admission import pod_of
from deploy.k8s.check.planted import GONE, Planted, load_planted
from deploy.k8s.check.references import broken, matches

LABELS = {"name": "bills", "part": "service"}


def installation() -> list[dict[str, Any]]:
    """One service, whole: workload, service, budget, policy, monitor and scaler."""
    spec = {
        "serviceAccountName": "bills",
        "volumes": [
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "secrets", "projected": {"sources": [{"secret": {"name": "bills"}}]}},
        ],
        "containers": [
            {
                "name": "billbus",
                "ports": [{"name": "http", "containerPort": 1}],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
                "envFrom": [{"configMapRef": {"name": "settings"}}],
            }
        ],
    }
    template = {"metadata": {"labels": dict(LABELS)}, "spec": spec}
    trigger = {"metadata": {"topic": "issued"}}
    selector = {"matchLabels": {"name": "bills"}}
    port = {"name": "http", "targetPort": "http"}
    scaler = {"scaleTargetRef": {"name": "bills"}, "maxReplicaCount": 12, "triggers": [trigger]}
    return [
        made("ServiceAccount", "bills"),
        made("ConfigMap", "settings"),
        made("KafkaUser", "bills"),
        made("KafkaTopic", "issued", {"partitions": 12}),
        made("Deployment", "bills", {"selector": selector, "template": template}),
        made("Service", "bills", {"selector": {"name": "bills"}, "ports": [port]}),
        made("PodDisruptionBudget", "bills", {"selector": selector}),
        made(
            "NetworkPolicy",
            "bills",
            {"podSelector": selector, "ingress": [{"from": [{"podSelector": selector}]}]},
        ),
        made("ServiceMonitor", "bills", {"selector": selector, "endpoints": [{"port": "http"}]}),
        made("ScaledObject", "bills", scaler),
    ]


def made(kind: str, name: str, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "billbus", "labels": {"name": name}}
    return {"kind": kind, "metadata": metadata, "spec": spec or {}}


def test_what_leads_somewhere_is_left_alone() -> None:
    assert broken(installation()) == []


@pytest.mark.parametrize(
    ("kind", "of", "at", "value", "said"),
    [
        ("Service", "bills", "/spec/selector/name", "bill", "selects no pod"),
        ("Service", "bills", "/spec/ports/0/targetPort", "web", "has a port web"),
        ("PodDisruptionBudget", "bills", "/spec/selector/matchLabels/name", "bill", "selects no pod"),
        ("NetworkPolicy", "bills", "/spec/podSelector/matchLabels/name", "bill", "selects no pod"),
        ("ServiceMonitor", "bills", "/spec/selector/matchLabels/name", "bill", "selects no service"),
        ("ServiceMonitor", "bills", "/spec/endpoints/0/port", "web", "has no port web"),
        ("ScaledObject", "bills", "/spec/scaleTargetRef/name", "bill", "no Deployment bill to scale"),
        ("ScaledObject", "bills", "/spec/maxReplicaCount", 13, "more replicas than issued has partitions"),
        ("ScaledObject", "bills", "/spec/triggers/0/metadata/topic", "issue", "no topic issue"),
        ("Deployment", "bills", "/spec/template/spec/serviceAccountName", "bill", "no service account bill"),
        ("Deployment", "bills", "/spec/template/spec/volumes/0/configMap/name", "set", "no ConfigMap set"),
        (
            "Deployment",
            "bills",
            "/spec/template/spec/volumes/1/projected/sources/0/secret/name",
            "bill",
            "no Secret bill",
        ),
        (
            "Deployment",
            "bills",
            "/spec/template/spec/containers/0/readinessProbe/httpGet/port",
            "web",
            "asks port web",
        ),
    ],
)
def test_a_name_that_leads_nowhere_is_said(kind: str, of: str, at: str, value: object, said: str) -> None:
    everything, _ = Planted("an error", kind, of, at, said, value).into(installation())
    assert any(said in sentence for sentence in broken(everything))


def test_selectors_are_read_as_kubernetes_reads_them() -> None:
    assert matches({}, LABELS)
    assert matches({"matchExpressions": [{"key": "part", "operator": "In", "values": ["service"]}]}, LABELS)
    assert not matches(
        {"matchExpressions": [{"key": "part", "operator": "NotIn", "values": ["service"]}]}, LABELS
    )
    assert not matches({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, LABELS)


def test_a_planted_error_changes_one_field_and_not_what_it_was_given() -> None:
    given = installation()
    _, changed = Planted("no port", "Service", "bills", "/spec/ports/0/name", "", GONE).into(given)
    assert changed["spec"]["ports"] == [{"targetPort": "http"}]
    assert given == installation()
    with pytest.raises(LookupError, match="no Service bill"):
        Planted("nowhere", "Service", "bill", "/spec", "").into(given)


def test_every_planted_error_says_what_it_expects() -> None:
    errors = load_planted()
    assert len({error.name for error in errors}) == len(errors) >= 30
    assert all(error.says for error in errors)


def test_the_pod_of_a_workload_has_its_claims() -> None:
    stateful = made("StatefulSet", "payments")
    stateful["spec"] = {
        "volumeClaimTemplates": [{"metadata": {"name": "state"}}],
        "template": {"metadata": {"labels": {}}, "spec": {"volumes": [{"name": "tmp", "emptyDir": {}}]}},
    }
    pod = pod_of(stateful)
    assert pod is not None
    assert [each["name"] for each in pod["spec"]["volumes"]] == ["tmp", "state"]
    assert pod_of(made("Service", "payments")) is None
