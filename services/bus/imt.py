"""One call to one of IMT's services, as the biller's file and the wire's contract have it."""

from collections.abc import Callable
from dataclasses import dataclass

from services.bus.billers import Biller
from services.bus.partner import PartnerHttp, Reply
from services.bus.secrets import Secrets
from services.bus.wire import Imt, WireService


@dataclass(frozen=True, slots=True)
class ImtCalls:
    """Calls of one service.

    Attributes:
        name: of the service, in errors and metrics.
        address: where the biller's file says it is.
    """

    name: str
    partners: PartnerHttp
    secrets: Secrets
    imt: Imt
    wire: WireService
    address: Callable[[Biller], str]

    async def call(
        self,
        biller: Biller,
        operation: str,
        body: dict[str, object] | None = None,
        **values: str | int | None,
    ) -> Reply:
        """The answer to one operation; `values` go into its address. Raises services.bus.partner's errors."""
        called = self.wire.operations[operation]
        return await self.partners.request(
            called.method,
            called.url(self.address(biller), **values),
            biller=biller.slug,
            service=self.name,
            headers=self.imt.auth.headers(self.secrets.get(biller.imt.token)),
            json=body,
            deadline_s=biller.imt.deadline_s,
        )
