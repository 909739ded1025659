"""Choose the Java parts anew: resolve them by coordinate and write artifacts.yaml again."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from jgo.maven import MavenContext, PythonResolver

from deploy.local.artifacts import PINS

KAFKA = (
    "org.apache.kafka:kafka_2.13:4.3.1",
    "org.apache.kafka:kafka-tools:4.3.1",
    "org.slf4j:slf4j-simple:1.7.36",
)
REGISTRY = ("io.apicurio", "apicurio-registry-app", "3.3.3", "all", "tar.gz")
HEAD = """\
# Every file that Kafka and the registry are made of; written by `python -m deploy.local pin`.
# coordinate: group:artifact:version[:classifier]; size in bytes.
"""


def pin(target: Path = PINS) -> None:
    """Downloads everything (215 MB) into a folder that is thrown away, and writes sizes and checksums."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), resolver=PythonResolver())
        roots = [context.create_dependency(coordinate) for coordinate in KAFKA]
        _, nodes = context.resolver.get_dependency_list(roots)
        jars = [root.artifact for root in roots] + [node.dep.artifact for node in nodes]
        group, name, version, classifier, packaging = REGISTRY
        component = context.project(group, name).at_version(version)
        registry = component.artifact(classifier=classifier, packaging=packaging)
        rows = sorted(f"  - {{{_row(jar)}}}\n" for jar in jars)
        last = _row(registry).replace(", ", "\n  ")
        target.write_text(
            f"{HEAD}kafka:\n{''.join(rows)}registry:\n  {last}\n".replace(
                "\n  size", f"\n  packaging: {packaging}\n  size", 1
            )
        )


def _row(artifact: Any) -> str:
    content = artifact.resolve().read_bytes()
    names = (artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier)
    coordinate = ":".join(name for name in names if name)
    return f"coordinate: {coordinate}, size: {len(content)}, sha256: {hashlib.sha256(content).hexdigest()}"
