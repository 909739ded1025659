"""What has to be known of a new biller: each field of its file as a question, and whether an answer fits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from services.bus.biller import Biller
from services.bus.support import SECTIONS, SupportMatrix

REQUIRED = object()
SUGGESTED = {
    "invoice_cloud.web_service_key": "{slug}-ic-key",
    "imt.token": "{slug}-imt-token",
    "intake.user": "{slug}",
    "intake.password": "{slug}-intake-password",
    "intake.bearer": "{slug}-intake-bearer",
    "links.key": "{slug}-link-key",
}
"""Names that are good unless somebody wants others; secrets by their names, never by their values."""


@dataclass(frozen=True)
class Question:
    """One field: its path with dots, what the file says of it, and what it is without an answer.

    `default` may hold `{slug}`; it is REQUIRED where only a person knows. `assumed`: not public knowledge.
    """

    path: str
    text: str
    default: Any
    assumed: bool
    info: FieldInfo

    def check(self, answer: object) -> None:
        """Raises ValueError with one sentence where the answer does not fit the field."""
        adapter: TypeAdapter[Any] = TypeAdapter(self.info.rebuild_annotation(), config=_CONFIG)
        try:
            adapter.validate_python(answer)
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"{self.path}: {said}") from None


_CONFIG: Any = {"arbitrary_types_allowed": True}


def questions(model: type[BaseModel] = Biller, path: str = "") -> Iterator[Question]:
    """Every field of a biller's file in its order; switches by the support table are asked elsewhere."""
    for name, info in model.model_fields.items():
        part, at = part_of(info), f"{path}{name}"
        if part is not None:
            yield from questions(part, f"{at}.")
        elif at not in SECTIONS.values():
            text = info.description or ""
            fallback = REQUIRED if info.is_required() else info.default
            yield Question(at, text, SUGGESTED.get(at, fallback), "(assumed)" in text, info)


def part_of(info: FieldInfo) -> type[BaseModel] | None:
    """The section that a field is, or None for a value."""
    kinds = [info.annotation, *get_args(info.annotation)]
    found = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return found[0] if found and info.default is not None else None


def is_asked(question: Question) -> bool:
    """Whether a person is asked: what only they know, what is suggested, what is assumed. The rest has a
    default that fits most, and stands in the file to be changed."""
    return question.default is REQUIRED or question.assumed or question.path in SUGGESTED


def value_at(answers: Mapping[str, Any], path: str) -> Any:
    """The answer to a question, or None."""
    found: Any = answers
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def put(answers: dict[str, Any], path: str, value: object) -> None:
    """Adds an answer."""
    *sections, name = path.split(".")
    for section in sections:
        answers = answers.setdefault(section, {})
    answers[name] = value


def filled(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers with what is suggested or a default where nothing is said, as YAML holds it."""
    whole: dict[str, Any] = {name: value for name, value in answers.items() if not isinstance(value, Mapping)}
    whole |= {name: dict(value) for name, value in answers.items() if isinstance(value, Mapping)}
    whole.setdefault("features", {}).setdefault("balance_forward", True)
    for question in questions():
        default = question.default
        if value_at(whole, question.path) is None and default is not REQUIRED and default is not None:
            slug = str(answers.get("slug", ""))
            put(whole, question.path, default.format(slug=slug) if question.path in SUGGESTED else default)
    return whole


def switches(support: SupportMatrix) -> Iterator[tuple[str, str]]:
    """What a biller may switch on: its path in the file, and what the support table says of it."""
    for row in support.rows:
        if row.optional and row.supported:
            yield f"{SECTIONS[row.kind]}.{row.slug}", f"{row.name}. {row.sentence}"
