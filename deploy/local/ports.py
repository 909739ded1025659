"""Which port each part listens on, and what to do when one is taken."""

from __future__ import annotations

import http.client
import os
import socket

from deploy.local.errors import LocalError

HOST = "127.0.0.1"
DEFAULTS = {
    "kafka": 19092,
    "kafka-controller": 19093,
    "registry": 18081,
    "sandbox": 18090,
    "invoices": 18101,
    "balances": 18102,
    "payments": 18103,
    "settings": 18104,
    "bills": 18105,
}


def variable(part: str) -> str:
    """The environment variable that moves a part to another port."""
    return f"BILLBUS_{part.upper().replace('-', '_')}_PORT"


def port_of(part: str) -> int:
    """The part's port, from its environment variable or the default; raises LocalError if it is no port."""
    text = os.environ.get(variable(part))
    if text is None:
        return DEFAULTS[part]
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise LocalError(f"{variable(part)} is {text!r}, which is no port; give a number from 1 to 65535.")
    return int(text)


def free_port() -> int:
    """A port that nobody listens on now; it stays free for the next moment only by chance."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def free_ports() -> dict[str, int]:
    """A free port for every part, no two alike."""
    probes = {part: socket.socket() for part in DEFAULTS}
    try:
        for probe in probes.values():
            probe.bind((HOST, 0))
        return {part: int(probe.getsockname()[1]) for part, probe in probes.items()}
    finally:
        for probe in probes.values():
            probe.close()


def chosen_ports() -> dict[str, int]:
    """The port of every part as the environment says."""
    return {part: port_of(part) for part in DEFAULTS}


def answers(port: int) -> bool:
    """Whether something on this machine accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def http_status(port: int, path: str, limit_s: float = 5) -> int:
    """What GET answers on a port of this machine; 0 when nobody answers within `limit_s` seconds."""
    connection = http.client.HTTPConnection(HOST, port, timeout=limit_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def require_free(part: str, port: int) -> None:
    """Raises LocalError, naming the variable that moves the part, if the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as problem:
            raise LocalError(
                f"Port {port}, which {part} wants, is taken by another process; "
                f"end that one or set {variable(part)} to a free port."
            ) from problem
