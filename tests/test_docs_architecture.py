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


def test_lab_train_reaches_the_gradient_in_at_most_12_calls():
    lines = [line for line in page.calls().splitlines() if line[:1] in " 123456789"]
    assert 8 <= len(lines) <= 12, "\n".join(lines)
    assert "train_stack" in lines[-3]


def test_the_owners_of_facts_exist():
    table = TEXT.split("## Where each fact is defined")[1].split("## Every module")[0]
    files = re.findall(r"`([a-z_/]+(?:\.py|\.json|/))`", table)
    assert len(files) >= 20
    for file in files:
        assert (page.PACKAGE / file).exists(), file
    for name, file in re.findall(r"`(\w+)` in `([a-z_/]+\.py)`", table):
        tree = ast.parse((page.PACKAGE / file).read_text("utf-8"))
        assert name in {getattr(node, "name", "") for node in tree.body}, f"{file} has no {name}"
