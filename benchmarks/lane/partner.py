"""The partner of the benchmark: a Go program whose ledger is what every figure is taken from."""

import http.client
import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from benchmarks.lane.payments import HOT
from benchmarks.machine import ending_with_us

SOURCE = Path(__file__).with_name("partner")
STOP_LIMIT_S = 10


class Partner:
    """One run's partner, with a ledger of its own; `url` is its address. Use it in `with`."""

    def __init__(self, binary: Path, delay_ms: int) -> None:
        command = ending_with_us([str(binary), "-delay", f"{delay_ms}ms", "-apart", HOT])
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the partner did not start")
        self._connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.wait(STOP_LIMIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def report(self, warm_after: int = 0) -> dict[str, float]:
        """The ledger: counts, and unix times in seconds; `warm_from` is the post after `warm_after`."""
        self._connection.request("GET", f"/report?warm_after={warm_after}")
        found: dict[str, float] = json.load(self._connection.getresponse())
        return found
