"""The rights that the catalog gives, on a broker: what is missing is added, what is too much is named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from services.bus.place import Place
from services.bus.rights import Right

ANSWER_S = 30.0
KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "cluster": ResourceType.BROKER}
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


@dataclass(frozen=True)
class AccessChange:
    """A right that the broker lacks, or has without our asking for it."""

    user: str
    action: Literal["grant", "revoke"]
    right: str


def make_access(
    place: Place, rights: Mapping[str, Sequence[Right]], *, act: bool, revoke: bool
) -> list[AccessChange]:
    """What differs for our users; with `act` the missing ones are added, with `revoke` the others removed.

    Safe to run again. Raises KafkaException, as from a broker without an authorizer.
    """
    wanted = {
        _binding(user, right): (user, str(right)) for user, all_of in rights.items() for right in all_of
    }
    there = {found: user for user in rights for found in _granted(place, user)}
    missing = [binding for binding in wanted if binding not in there]
    extra = [binding for binding in there if binding not in wanted]
    if act and missing:
        for made in place.admin.create_acls(missing, request_timeout=ANSWER_S).values():
            made.result(ANSWER_S)
    if act and revoke and extra:
        for gone in place.admin.delete_acls([_exactly(each) for each in extra]).values():
            gone.result(ANSWER_S)
    return [
        *(AccessChange(wanted[each][0], "grant", wanted[each][1]) for each in missing),
        *(AccessChange(there[each], "revoke", _said(each)) for each in extra),
    ]


def _granted(place: Place, user: str) -> list[AclBinding]:
    every = AclBindingFilter(
        ResourceType.ANY,
        None,
        ResourcePatternType.ANY,
        f"User:{user}",
        None,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    return list(place.admin.describe_acls(every, request_timeout=ANSWER_S).result(ANSWER_S))


def _binding(user: str, right: Right) -> AclBinding:
    return AclBinding(
        KINDS[right.resource],
        right.name,
        ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        OPERATIONS[right.operation],
        AclPermissionType.ALLOW,
    )


def _exactly(binding: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )


def _said(binding: AclBinding) -> str:
    what = f"{binding.permission_type.name} {binding.operation.name}".lower()
    pattern = binding.resource_pattern_type.name.lower()
    return f"{what} on {binding.restype.name.lower()} {binding.name} ({pattern}), not in the catalog"
