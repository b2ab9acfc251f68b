"""docs/architecture.md says what the code says: its generated blocks, and the files and names that it mentions."""

from __future__ import annotations

import ast
import re

import architecture_page as page
import pytest

TEXT = page.PAGE.read_text("utf-8")


@pytest.mark.parametrize("name", page.BLOCKS)
def test_the_generated_blocks_are_up_to_date(name: str):
    assert page.block(TEXT, name) == page.BLOCKS[name](), "out of date; run: make docs"


def test_the_tree_lists_every_module_and_every_module_says_what_it_is_for():
    tree = page.block(TEXT, "tree")
    for path in page.modules():
        if path.parent != page.PACKAGE or path.name != "__init__.py":
            assert page.first_line(path), f"{path} has no docstring"
            assert page.first_line(path) in tree


def test_imports_have_no_cycle():
    edges = page.imports()
    done: set[str] = set()
    while len(done) < len(edges):
        free = {name for name, others in edges.items() if name not in done and others <= done}
        assert free, f"a cycle among {sorted(set(edges) - done)}"
        done |= free


def test_the_owners_of_facts_exist():
    table = TEXT.split("## Where each fact is defined")[1].split("## Every module")[0]
    files = re.findall(r"`([a-z_/]+(?:\.py|\.json|/))`", table)
    assert len(files) >= 20
    for file in files:
        assert (page.PACKAGE / file).exists(), file
    for name, file in re.findall(r"`(\w+)` in `([a-z_/]+\.py)`", table):
        tree = ast.parse((page.PACKAGE / file).read_text("utf-8"))
        assert name in {getattr(node, "name", "") for node in tree.body}, f"{file} has no {name}"
