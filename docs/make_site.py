"""Build the documentation site from the pages of docs/: copy them, generate the others, and check every link.

    python docs/make_site.py            # writes build/site; offline, and fails on any dead link

Pages are written for GitHub: a link names a file of the repository. Here those into docs/ stay as they are, and what
lies outside (the changelog, recipes, benchmarks) is copied under `repository/`: Markdown as it is, code as a listing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).parent))
import make_pages

ROOT = Path(__file__).parents[1]
DOCS, BUILD = ROOT / "docs", ROOT / "build"
PAGES, SITE = BUILD / "docs", BUILD / "site"
GRID_FILES = DOCS / "howto" / "grid-files.md"
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_FENCE = re.compile(r"(^```.*?^```[^\n]*$)", re.DOTALL | re.MULTILINE)
_LISTED = {".py": "python", ".toml": "toml", ".json": "json"}
"""Endings of files outside docs/ that are shown as listings -> their language."""


def copy_pages(pages: Path = PAGES) -> None:
    """Copy docs/ and the generated pages to where the site is built from, with what they link to outside docs/."""
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("*.py", "site.toml", "__pycache__"))
    for path, text in make_pages.pages().items():
        (pages / path).parent.mkdir(parents=True, exist_ok=True)
        (pages / path).write_text(text, "utf-8")
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        _copy_in(ROOT / name, pages)
    done: set[Path] = set()
    while new := set(pages.rglob("*.md")) - done:
        for page in sorted(new):
            page.write_text(_for_site(page, pages), "utf-8")
        done |= new


def _for_site(page: Path, pages: Path) -> str:
    """The text of a page with its links as the site needs them; copies what it links to."""
    source = _source(page, pages)
    text = page.read_text("utf-8")
    text = re.sub(r"```mermaid\n(.*?)```", lambda found: make_pages.arrows(found[1]), text, flags=re.DOTALL)

    def moved(found: re.Match[str]) -> str:
        target = found[2]
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        there = Path(os.path.normpath(source.parent / target))
        place = _place(there, pages)
        return f"{found[1]}{os.path.relpath(place, page.parent)}{found[3] or ''}{found[4]}" if place else found[0]

    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(moved, part) for part in parts)


def _source(page: Path, pages: Path) -> Path:
    """The file of the repository that a page of the site was copied from (for a generated one: would be)."""
    inner = page.relative_to(pages)
    return ROOT.joinpath(*inner.parts[1:]) if inner.parts[0] == "repository" else DOCS / inner


def _place(there: Path, pages: Path) -> Path | None:
    """Where a file of the repository is on the site; None if it is nowhere, which the build then reports."""
    if there.is_relative_to(DOCS):
        own = pages / there.relative_to(DOCS)
        return _index(own, there.relative_to(ROOT)) if own.is_dir() else own
    return _copy_in(there, pages) if there.exists() and there.is_relative_to(ROOT) else None


def _copy_in(there: Path, pages: Path) -> Path:
    """Copy a file or the list of a folder from outside docs/ into the site; returns its page or file."""
    inner = there.relative_to(ROOT)
    place = pages / "repository" / inner
    if there.is_dir():
        if (there / "README.md").is_file():
            return _copy_in(there / "README.md", pages)
        place = place / "index.md"
        text = _folder_page(there, inner)
    elif there.suffix in _LISTED:
        place = place.with_name(place.name + ".md")
        text = f"# {inner}\n\n````{_LISTED[there.suffix]}\n{there.read_text('utf-8')}````\n"
    else:
        text = ""
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        if text:
            place.write_text(text, "utf-8")
        else:
            shutil.copyfile(there, place)
    return place


def _index(folder: Path, inner: Path) -> Path:
    """The page of a folder of docs/: its own, or a list of its files."""
    for own in (folder / "README.md", folder / "index.md"):
        if own.is_file():
            return own
    page = folder / "index.md"
    page.write_text(_folder_page(folder, inner), "utf-8")
    return page


def _folder_page(folder: Path, inner: Path) -> str:
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir() if not p.name.startswith(("_", ".")))
    listed = "\n".join(f"- [{name}]({name})" for name in names)
    return f"# {inner}/\n\n{listed}\n"


# -- Links of what was built


class _Page(HTMLParser):
    """The anchors of an HTML page, and what it refers to."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        given = dict(attrs)
        self.anchors |= {str(given[key]) for key in ("id", "name") if given.get(key)}
        if given.get("rel") not in ("canonical", "edit"):
            self.targets += [str(given[key]) for key in ("href", "src") if given.get(key)]


def dead_links(site: Path) -> Iterator[str]:
    """What the pages of a site refer to that is not there, and what they would load from elsewhere."""
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        if path.name == "404.html" or not path.is_relative_to(site):
            continue
        for target in dict.fromkeys(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            if not there.exists():
                yield f"{path.relative_to(site)} refers to {target}, which is not there"
            elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].anchors:
                yield f"{path.relative_to(site)} refers to {target}, which has no such heading"


def loaded_from_elsewhere(site: Path) -> Iterator[str]:
    """Scripts, styles and pictures that a reader's browser would fetch from another host."""
    for path in sorted(site.rglob("*.html")):
        for found in re.finditer(
            r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"?(https?://[^\s\">]+)", path.read_text()
        ):
            if 'rel="canonical"' not in found[0] and "rel=canonical" not in found[0]:
                yield f"{path.relative_to(site)} loads {found[1]}"


def write_config(folder: Path = BUILD) -> Path:
    """Write the configuration: `site.toml`, with the pages in the order in which the site lists them."""
    lines = [f"  {{ {_quoted(title)} = {_entries(pages)} }}," for title, pages in make_pages.NAVIGATION.items()]
    text = (DOCS / "site.toml").read_text("utf-8")
    head, rest = text.split("\n[project.theme]", 1)
    path = folder / "zensical.toml"
    path.write_text("\n".join([head, "nav = [", *lines, "]", f"\n[project.theme]{rest}"]), "utf-8")
    return path


def _entries(pages: str | dict[str, str]) -> str:
    """A page, or a list of pages with titles, as TOML."""
    if isinstance(pages, str):
        return _quoted(pages)
    return "[" + ", ".join(f"{{ {_quoted(title)} = {_quoted(page)} }}" for title, page in pages.items()) + "]"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def with_example(text: str) -> str:
    """The page on grid files with the present example."""
    example = (ROOT / "recipes" / "example.toml").read_text("utf-8")
    head, rest = text.split("<!-- example -->\n")
    return f"{head}<!-- example -->\n```toml\n{example}```\n{rest[rest.index('<!-- end of example -->') :]}"


def main() -> int:
    """Build; returns the exit status, 2 for dead links."""
    if "--example" in sys.argv:
        GRID_FILES.write_text(with_example(GRID_FILES.read_text("utf-8")), "utf-8")
        return 0
    copy_pages()
    config = write_config()
    shutil.rmtree(SITE, ignore_errors=True)
    words = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", config.name]
    done = subprocess.run(words, cwd=BUILD, check=False)
    if done.returncode:
        return 2
    faults = [*dead_links(SITE), *loaded_from_elsewhere(SITE)]
    for fault in faults:
        print(f"docs: {fault}", file=sys.stderr)
    if not faults:
        print(
            f"{SITE.relative_to(ROOT)}: {len(list(SITE.rglob('*.html')))} pages; python -m http.server -d build/site"
        )
    return 2 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
