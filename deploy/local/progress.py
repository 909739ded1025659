"""The parts, fetched while a person watches."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from deploy.local.artifacts import Parts, cache_folder, fetch, load_pins, locate


def fetch_with_progress() -> Parts:
    """Kafka and the registry from the cache, or fetched into it with a progress bar on stderr."""
    pins, cache = load_pins(), cache_folder()
    if found := locate(pins, cache):
        return found
    columns = (TextColumn("Kafka and the registry"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=sum(artifact.size for artifact in pins.files))
        return fetch(pins, cache, advance=lambda size: bar.advance(task, size))
