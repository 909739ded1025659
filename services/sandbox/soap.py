"""SOAP 1.1, document/literal: an envelope in, checked against the WSDL's schema; an envelope out."""

from collections.abc import Iterable, Mapping
from typing import Any

from lxml import etree

_ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
_WSDL_SOAP = "http://schemas.xmlsoap.org/wsdl/soap/"
_XS = "http://www.w3.org/2001/XMLSchema"

Tree = dict[str, Any]
"""An element's children by their names, in their order; a name that repeats has a list."""


class SoapError(Exception):
    """Not an envelope with an operation that the WSDL has; the message is the fault's."""


def parser() -> Any:
    """A parser that follows nothing: no entities, no DTD, no network, no huge trees."""
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


class Wsdl:
    """What the sandbox needs of a WSDL: its schema, its namespace, and itself with another address."""

    def __init__(self, content: bytes) -> None:
        self._tree = etree.fromstring(content, parser())
        self.namespace: str = self._tree.get("targetNamespace")
        # written out and read again: on its own it needs the prefixes declared above it
        schema = etree.tostring(self._tree.find(f".//{{{_XS}}}schema"), with_tail=False)
        self._schema = etree.XMLSchema(etree.fromstring(schema, parser()))

    def at(self, address: str) -> bytes:
        """The WSDL with the service at that address."""
        self._tree.find(f".//{{{_WSDL_SOAP}}}address").set("location", address)
        return bytes(etree.tostring(self._tree, xml_declaration=True, encoding="utf-8"))

    def read(self, content: bytes) -> tuple[str, Tree]:
        """The operation's name and its parameters; raises SoapError."""
        try:
            root = etree.fromstring(content, parser())
        except etree.XMLSyntaxError:
            raise SoapError("not well-formed XML") from None
        if root.getroottree().docinfo.doctype:
            raise SoapError("a document type declaration is not taken")
        body = root.find(f"{{{_ENVELOPE}}}Body")
        if root.tag != f"{{{_ENVELOPE}}}Envelope" or body is None or len(body) != 1:
            raise SoapError("not a SOAP 1.1 envelope with one body element")
        asked = etree.fromstring(
            etree.tostring(body[0], with_tail=False), parser()
        )  # alone, as the schema sees it
        if not self._schema.validate(asked):
            raise SoapError(f"not as the WSDL has it: {_where(self._schema)}")
        return etree.QName(asked).localname, _tree(asked)

    def envelope(self, operation: str, parameters: Mapping[str, Any]) -> bytes:
        """An answer: the element of that name with these children."""
        root, body = _empty_envelope()
        element = etree.SubElement(body, f"{{{self.namespace}}}{operation}", nsmap={None: self.namespace})
        self._fill(element, parameters)
        return _bytes(root)

    def _fill(self, element: Any, children: Mapping[str, Any]) -> None:
        for name, value in children.items():
            for one in value if isinstance(value, list) else [value]:
                if one is None:
                    continue
                child = etree.SubElement(element, f"{{{self.namespace}}}{name}")
                if isinstance(one, Mapping):
                    self._fill(child, one)
                else:
                    child.text = str(one).lower() if isinstance(one, bool) else str(one)


def fault(message: str, *, client: bool = True) -> bytes:
    """A SOAP fault; the caller's, or ours."""
    root, body = _empty_envelope()
    element = etree.SubElement(body, f"{{{_ENVELOPE}}}Fault")
    etree.SubElement(element, "faultcode").text = "soap:Client" if client else "soap:Server"
    etree.SubElement(element, "faultstring").text = message
    return _bytes(root)


def children(tree: Mapping[str, Any], name: str) -> list[Any]:
    """The children of a name, however many there are."""
    found = tree.get(name)
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


def _empty_envelope() -> tuple[Any, Any]:
    root = etree.Element(f"{{{_ENVELOPE}}}Envelope", nsmap={"soap": _ENVELOPE})
    return root, etree.SubElement(root, f"{{{_ENVELOPE}}}Body")


def _bytes(root: Any) -> bytes:
    return bytes(etree.tostring(root, xml_declaration=True, encoding="utf-8"))


def _where(schema: Any) -> str:
    """The first thing wrong, by its element and rule, without the value."""
    errors: Iterable[Any] = schema.error_log
    first = next(iter(errors), None)
    if first is None:
        return "invalid"
    place = str(first.path or "").rsplit("/", 1)[-1].replace("*", "element")
    return f"{first.type_name} at {place} in line {first.line}"


def _tree(element: Any) -> Tree:
    found: Tree = {}
    for child in element:
        name = etree.QName(child).localname
        value: Any = _tree(child) if len(child) else (child.text or "")
        if name in found:
            before = found[name]
            found[name] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            found[name] = value
    return found
