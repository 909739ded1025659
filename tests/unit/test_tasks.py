"""A task that nobody holds may be collected in the middle of its work, and its error is seen by nobody."""

import ast

import pytest

from deploy.local.processes import ROOT

STARTS = {"create_task", "ensure_future", "run_in_executor"}
FILES = sorted((ROOT / "services").rglob("*.py"))


def unheld(source: str) -> list[int]:
    """Lines that start a task and drop it; a task group (`group.create_task`) holds its own."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr in STARTS
        and not (isinstance(node.value.func.value, ast.Name) and node.value.func.value.id == "group")
    ]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("asyncio.create_task(f())", [1]),
        ("asyncio.get_running_loop().create_task(f())", [1]),
        ("asyncio.ensure_future(f())", [1]),
        ("task = asyncio.create_task(f())", []),
        ("group.create_task(f())", []),
        ("running.append(asyncio.create_task(f()))", []),
    ],
)
def test_the_rule_finds_what_it_should(line: str, found: list[int]) -> None:
    assert unheld(line) == found


def test_every_task_is_held_by_somebody() -> None:
    sources = {str(path): path.read_text() for path in FILES}
    starting = {name: text for name, text in sources.items() if any(word in text for word in STARTS)}
    assert {name: lines for name, text in starting.items() if (lines := unheld(text))} == {}
