"""The client of IMT's `Bills`: whether a PDF is there, and the PDF itself."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from services.bus.biller import Biller
from services.bus.partner import Outage, PartnerHttp, Retryable, Stream
from services.bus.secrets import Secrets
from services.bus.wire import Imt

SERVICE = "imt.bills"


@dataclass(frozen=True, slots=True)
class There:
    """IMT has the bill's PDF; `length` in bytes, where it says so."""

    length: int | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """IMT does not have it; `reason` is short and machine-readable."""

    reason: str


class Bills:
    """Raises PartnerError where IMT cannot be asked or answers with something else."""

    def __init__(self, http: PartnerHttp, wire: Imt, secrets: Secrets) -> None:
        self._http = http
        self._imt = wire
        self._wire = wire.services.bills
        self._secrets = secrets

    async def check(self, biller: Biller, bill_id: str) -> There | Missing:
        """Asks whether the PDF is there, without fetching it.

        A page that is not found may be this one bill's: then only this one waits, not the biller's others.
        """
        url = self._url("check_bill", biller, bill_id)
        if url is None:
            return Missing("unusable_bill_id")
        try:
            reply = await self._http.request(
                self._wire.operations["check_bill"].method,
                url,
                biller=biller.slug,
                service=SERVICE,
                headers=self._headers(biller),
                deadline_s=biller.imt.deadline_s,
                content_types=(self._wire.content_type,),
            )
        except Outage as fault:
            if fault.status != 404:
                raise
            raise Retryable(biller.slug, SERVICE, fault.reason, status=404) from fault
        if not reply.ok:
            return Missing(f"imt_answered_{reply.status}")
        length = reply.headers.get("Content-Length", "")
        if length == "0":
            return Missing("empty")
        return There(int(length) if length.isdigit() else None)

    def read(self, biller: Biller, bill_id: str) -> AbstractAsyncContextManager[Stream] | Missing:
        """The PDF, to be streamed; a status of 4xx in it means that IMT does not have it."""
        url = self._url("read_bill", biller, bill_id)
        if url is None:
            return Missing("unusable_bill_id")
        return self._http.stream(
            self._wire.operations["read_bill"].method,
            url,
            biller=biller.slug,
            service=SERVICE,
            headers=self._headers(biller),
            deadline_s=biller.imt.bill_deadline_s,
            max_bytes=min(biller.imt.bill_limit_bytes, self._wire.limits["bytes"]),
            content_types=(self._wire.content_type,),
        )

    def _url(self, operation: str, biller: Biller, bill_id: str) -> str | None:
        """The bill id stays one part of the path, whatever is in it: the address is IMT's and no other."""
        try:
            return self._wire.operations[operation].url(biller.imt.bills, bill_id=bill_id)
        except ValueError:
            return None

    def _headers(self, biller: Biller) -> dict[str, str]:
        return self._imt.auth.headers(self._secrets.get(biller.imt.token))
