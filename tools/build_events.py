"""Builds the package billbus-events into dist/: the events as Python types, and a reader of topics.

Everything in it comes from services/events and schemas/; run by `make events`.
"""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from services.bus.catalog import load_catalog

ROOT = Path(__file__).resolve().parents[1]
EVENTS, SCHEMAS, STAGE = ROOT / "services" / "events", ROOT / "schemas", ROOT / "build" / "events"
NEEDED = ("confluent-kafka", "fastavro")
PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "billbus-events"
version = "{version}"
description = "Events of billbus, typed, for programs that know nothing of Kafka"
requires-python = "{python}"
dependencies = {dependencies}

[tool.setuptools]
packages = ["billbus.events"]
package-data = {{ "billbus.events" = ["*.avsc", "py.typed"] }}
"""


def stage(folder: Path) -> None:
    """Puts the package's source together in `folder`."""
    package = folder / "billbus" / "events"
    package.mkdir(parents=True)
    for source in EVENTS.glob("*.py"):
        shutil.copy(source, package)
    for name, topic in load_catalog(SCHEMAS).items():
        (package / f"{name}.avsc").write_text(json.dumps(topic.schema), encoding="utf-8")
    (package / "py.typed").touch()
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [
        line.replace("[schemaregistry]", "") for line in ours["dependencies"] if line.startswith(NEEDED)
    ]
    (folder / "pyproject.toml").write_text(
        PYPROJECT.format(version=ours["version"], python=ours["requires-python"], dependencies=needed)
    )


def main(target: Path) -> None:
    shutil.rmtree(STAGE, ignore_errors=True)
    stage(STAGE)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(target), str(STAGE)], check=True)
    print(*target.glob("billbus_events-*.whl"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
