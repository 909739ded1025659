"""SOAP by our own WSDL: envelopes out, answers in. No network: that is the partner client's."""

from pathlib import Path
from typing import Any

import zeep
from lxml import etree
from zeep.exceptions import Error
from zeep.helpers import serialize_object
from zeep.loader import parse_xml

from services.bus.settings import ConfigurationError

ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"


class Malformed(Exception):
    """The answer is no SOAP envelope that the WSDL knows."""


class Fault(Exception):
    """The partner answered with a fault; `text` is its faultstring."""

    def __init__(self, text: str) -> None:
        super().__init__("SOAP fault")
        self.text = text


class Soap:
    """The operations of one binding of a WSDL file; raises ConfigurationError when it cannot be read."""

    def __init__(self, wsdl: Path, binding: str) -> None:
        try:
            # entities, DTDs and huge trees are refused in answers as they are in the file
            self._settings = zeep.Settings(strict=True, xml_huge_tree=False, forbid_dtd=True)
            self._client = zeep.Client(str(wsdl), settings=self._settings)
            self._operations = self._client.wsdl.bindings[binding]._operations
        except (Error, OSError, etree.LxmlError, KeyError) as error:
            raise ConfigurationError([f"{wsdl}: {type(error).__name__}: {error}"]) from None

    def action(self, operation: str) -> str:
        """The SOAPAction header's value."""
        return f'"{self._operations[operation].soapaction}"'

    def request(self, operation: str, **parameters: Any) -> bytes:
        """The envelope of a call; raises zeep's ValidationError for what the WSDL does not know."""
        envelope = self._client.create_message(self._client.service, operation, **parameters)
        return bytes(etree.tostring(envelope, xml_declaration=True, encoding="utf-8"))

    def reply(self, operation: str, body: bytes) -> dict[str, Any]:
        """What an envelope says, by the WSDL's names.

        Raises:
            Fault: the partner answered with a fault.
            Malformed: anything that is not the operation's answer.
        """
        try:
            envelope = parse_xml(body, self._client.transport, settings=self._settings)
            fault = envelope.find(f"{{{ENVELOPE}}}Body/{{{ENVELOPE}}}Fault")
            if fault is not None:
                raise Fault((fault.findtext("faultstring") or "").strip())
            found = serialize_object(self._operations[operation].process_reply(envelope), dict)
        except (Error, etree.LxmlError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise Malformed(type(error).__name__) from None
        if not isinstance(found, dict):
            raise Malformed("no result")
        return found
