"""`python -m services.sandbox`: one process, settings by environment (services/sandbox/environment.py)."""

from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.sandbox.app import build
from services.sandbox.environment import SandboxSettings

_GRACE_S = 1


class OpenHanded(H11Protocol):
    """HTTP/1.1 whose requests can reach their connection, so that a fault can cut it."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def main() -> None:
    """Serves until SIGTERM or Ctrl-C; calls that hang by a fault are given up after a second."""
    settings = SandboxSettings()
    config = uvicorn.Config(
        build(settings),
        host=settings.host,
        port=settings.port,
        http=OpenHanded,
        loop="uvloop",
        lifespan="on",
        ws="none",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=_GRACE_S,
    )
    # Ctrl-C has ended it in good order; the server passes it on all the same.
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
