"""Builds the site of the catalog and the docs with MkDocs: `make docs`, `python -m tools.site [--to FOLDER]`.

Its pages are made from schemas/, docs/, README.md and examples/consumers into a temporary folder, so that
nothing in the site is typed twice. Ends with 1 where a link is broken or a foreign host would be asked.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from services.bus.settings import ROOT
from tools.site.content import Content, gather
from tools.site.links import broken

HERE = Path(__file__).parent
TARGET = ROOT / "build" / "site"
LIMIT_S = 120


def main() -> int:
    """0 where the site was built and holds together."""
    parser = argparse.ArgumentParser(description="Build the site of the catalog and the docs.")
    parser.add_argument("--to", type=Path, default=TARGET, help="where to write it (default: build/site)")
    parser.add_argument("--schemas", type=Path, default=ROOT / "schemas", help="the catalog")
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        content = gather(arguments.schemas)
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 1
    target = arguments.to.resolve()
    with tempfile.TemporaryDirectory(prefix="billbus-site-") as folder:
        if build(content, arguments.schemas, Path(folder), target):
            return 1
    problems = broken(target)
    print(*problems, sep="\n", end="\n" if problems else "")
    if problems:
        return 1
    print(f"{len(content.pages)} pages in {target} ({time.monotonic() - began:.0f} s).")
    print(
        f"Read it with its search: {sys.executable} -m http.server --bind 127.0.0.1 --directory {target} 8000"
    )
    return 0


def build(content: Content, schemas: Path, folder: Path, target: Path) -> int:
    """Writes the pages into a folder and runs MkDocs over them, strictly; its exit code."""
    pages = folder / "pages"
    for name, text in content.pages.items():
        path = pages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(HERE / "site.css", pages)
    shutil.copy(ROOT / "docs" / "asyncapi.json", pages)
    shutil.copytree(ROOT / "docs" / "openapi", pages / "openapi")
    for file in schemas.glob("*/v*.avsc"):
        path = pages / "schemas" / file.parent.name / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, path)
    settings = {
        "INHERIT": str(HERE / "mkdocs.yml"),
        "docs_dir": str(pages),
        "site_dir": str(target),
        "nav": content.nav,
    }
    config = folder / "mkdocs.yml"
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # Material's notice about another generator
    done = subprocess.run(command, timeout=LIMIT_S, env=quiet, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
