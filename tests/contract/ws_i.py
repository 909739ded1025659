"""Rules in the manner of WS-I Basic Profile 1.1 for a WSDL of document/literal, wrapped.

A finding that begins with R and a number breaks the profile's rule of that number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree

WSDL = "http://schemas.xmlsoap.org/wsdl/"
SOAP = "http://schemas.xmlsoap.org/wsdl/soap/"
XS = "http://www.w3.org/2001/XMLSchema"
ENCODING = "http://schemas.xmlsoap.org/soap/encoding/"
HTTP = "http://schemas.xmlsoap.org/soap/http"


def findings(content: bytes, folder: Path) -> list[str]:
    """What a WSDL has against the rules, a line each; imports are looked for in the folder."""
    tree = etree.fromstring(content)
    rules = (_schemas, _messages, _port_types, _bindings, _wrapped, _encoding, _services)
    return [*_imports(tree, folder), *(finding for rule in rules for finding in rule(tree))]


def _imports(tree: Any, folder: Path) -> Iterator[str]:
    for each in tree.iterfind(f".//{{{WSDL}}}import"):
        if not each.get("location") or not (folder / each.get("location")).is_file():
            yield f"R2007 the import of {each.get('namespace')} leads nowhere"
    for each in tree.iter(f"{{{XS}}}import", f"{{{XS}}}include"):
        location = each.get("schemaLocation")
        if location and not (folder / location).is_file():
            yield f"R2001 {location} is not there"


def _schemas(tree: Any) -> Iterator[str]:
    if not tree.get("targetNamespace"):
        yield "R2005 the definitions have no targetNamespace"
    for schema in tree.iterfind(f".//{{{XS}}}schema"):
        if not schema.get("targetNamespace"):
            yield "R2105 a schema has no targetNamespace"
        if schema.get("elementFormDefault") != "qualified":
            yield "a schema's elements are not qualified"
        try:
            etree.XMLSchema(etree.fromstring(etree.tostring(schema, with_tail=False)))
        except etree.XMLSchemaParseError as error:
            yield f"R2800 a schema is not valid: {error}"


def _messages(tree: Any) -> Iterator[str]:
    there = {
        f"{{{schema.get('targetNamespace')}}}{element.get('name')}"
        for schema in tree.iterfind(f".//{{{XS}}}schema")
        for element in schema.iterfind(f"{{{XS}}}element")
    }
    for message in tree.iterfind(f"{{{WSDL}}}message"):
        name, parts = message.get("name"), message.findall(f"{{{WSDL}}}part")
        if len(parts) != 1:
            yield f"R2210 {name} has {len(parts)} parts"
        for part in parts:
            if not part.get("element"):
                yield f"R2204 {name}: a part names no element"
            elif _qname(part, part.get("element")) not in there:
                yield f"R2206 {name}: the element {part.get('element')} is nowhere"


def _port_types(tree: Any) -> Iterator[str]:
    messages = {message.get("name") for message in tree.iterfind(f"{{{WSDL}}}message")}
    for port_type in tree.iterfind(f"{{{WSDL}}}portType"):
        operations = port_type.findall(f"{{{WSDL}}}operation")
        names = Counter(each.get("name") for each in operations)
        yield from (f"R2304 {name} is there {count} times" for name, count in names.items() if count > 1)
        for operation in operations:
            steps = [
                etree.QName(step).localname
                for step in operation
                if etree.QName(step).localname in ("input", "output")
            ]
            if steps not in (["input"], ["input", "output"]):
                yield f"R2303 {operation.get('name')} is no request with or without an answer"
            for step in operation.iter(f"{{{WSDL}}}input", f"{{{WSDL}}}output", f"{{{WSDL}}}fault"):
                if step.get("message", "").rpartition(":")[2] not in messages:
                    yield f"{operation.get('name')}: the message {step.get('message')} is nowhere"


def _bindings(tree: Any) -> Iterator[str]:
    offered = {
        port_type.get("name"): {each.get("name") for each in port_type.iterfind(f"{{{WSDL}}}operation")}
        for port_type in tree.iterfind(f"{{{WSDL}}}portType")
    }
    for binding in tree.iterfind(f"{{{WSDL}}}binding"):
        soap = binding.find(f"{{{SOAP}}}binding")
        if soap is None:
            yield f"R2701 {binding.get('name')} is not SOAP 1.1"
            continue
        if soap.get("transport") != HTTP:
            yield "R2702 the transport is not HTTP"
        operations = binding.findall(f"{{{WSDL}}}operation")
        if {each.get("name") for each in operations} != offered.get(binding.get("type").rpartition(":")[2]):
            yield f"R2718 {binding.get('name')} and its port type have not the same operations"
        styles = {_soap_operation(each).get("style", soap.get("style", "document")) for each in operations}
        if styles != {"document"}:
            yield f"R2705 the styles are {sorted(styles)}, not document alone"
        actions = Counter(_soap_operation(each).get("soapAction") or "" for each in operations)
        yield from (f"the soapAction {action!r} stands for {n}" for action, n in actions.items() if n > 1)
        if "" in actions:
            yield "R2745 an operation has no soapAction"
        for body in binding.iter(*(f"{{{SOAP}}}{name}" for name in ("body", "header", "fault"))):
            if body.get("use") != "literal":
                yield f"R2706 the use of a {etree.QName(body).localname} is {body.get('use')}, not literal"


def _wrapped(tree: Any) -> Iterator[str]:
    """The element has the operation's name, and the answer's has `Response` behind it."""
    elements = {
        message.get("name"): part.get("element", "").rpartition(":")[2]
        for message in tree.iterfind(f"{{{WSDL}}}message")
        for part in message.iterfind(f"{{{WSDL}}}part")
    }
    for operation in tree.iterfind(f"{{{WSDL}}}portType/{{{WSDL}}}operation"):
        name = operation.get("name")
        for step, wanted in (("input", name), ("output", f"{name}Response")):
            stated = operation.find(f"{{{WSDL}}}{step}")
            found = None if stated is None else elements.get(stated.get("message", "").rpartition(":")[2])
            if found != wanted:
                yield f"{name}: the element of the {step} is {found}, not {wanted}"


def _encoding(tree: Any) -> Iterator[str]:
    for each in tree.iter(etree.Element):
        values = [*each.attrib.values(), *(_qname(each, value) or "" for value in each.attrib.values())]
        if f"{{{WSDL}}}arrayType" in each.attrib or any(ENCODING in value for value in values):
            yield f"R2110 {etree.QName(each).localname} in line {each.sourceline} is of SOAP's encoding"


def _services(tree: Any) -> Iterator[str]:
    bindings = {binding.get("name") for binding in tree.iterfind(f"{{{WSDL}}}binding")}
    ports = tree.findall(f"{{{WSDL}}}service/{{{WSDL}}}port")
    if not ports:
        yield "there is no port"
    for port in ports:
        if port.get("binding", "").rpartition(":")[2] not in bindings:
            yield f"{port.get('name')}: the binding {port.get('binding')} is nowhere"
        if len(port.findall(f"{{{SOAP}}}address")) != 1:
            yield f"R2711 {port.get('name')} has not one address"


def _soap_operation(operation: Any) -> Any:
    found = operation.find(f"{{{SOAP}}}operation")
    return {} if found is None else found


def _qname(element: Any, text: str) -> str | None:
    """A prefixed name as {namespace}name, or None where its prefix is not declared."""
    prefix, _, name = text.rpartition(":")
    space = element.nsmap.get(prefix or None)
    return f"{{{space}}}{name}" if space else None
