"""A run as a table: a row an operation, a column a position."""

from __future__ import annotations

import linecache
import re

from genlab.rasp.analysis import Reading
from genlab.rasp.analysis.complexity import shared
from genlab.rasp.lang.graph import Graph, Node
from genlab.rasp.running import Program, trace
from genlab.rasp.tokens import NO_TOKEN, TokenMap

__all__ = ["trace_table"]

_NAME = re.compile(r"\s*(\w+)(?:\s*:[^=]+)?\s*=(?!=)")
_WIDTH = 80


def trace_table(program: Program, tokens: TokenMap, prompt: str, width: int = _WIDTH) -> str:
    """Every intermediate sequence of a run on one prompt, equal operations once.

    Tokens and hints are shown as the task writes them, counts and indices as numbers, booleans as `.` and `T`; a
    dash stands for the negative values that mean none. What the program gives a name has it on the left. A select
    has no row of its own: the row of its values says what it selects. Rows within a library function are marked `·`.
    """
    graph = trace(program, tokens.parse(prompt), keep=True)
    reading = Reading(graph, tokens.domain)
    shown = [node for node in _distinct(graph) if node.op != "select"]
    rows = [(_title(node, graph, program), _cells(node, graph, reading, tokens)) for node in shown]
    cell = max((len(text) for _, cells in rows for text in cells), default=1)
    longest = max(len(title) for title, _ in rows)
    room = min(longest, max(12, width - (cell + 1) * len(rows[0][1]) - 1))
    table = [("", [str(i) for i in range(len(rows[0][1]))]), *rows]
    lines = (f"{_cut(title, room):{room}} " + " ".join(f"{text:>{cell}}" for text in cells) for title, cells in table)
    return "\n".join(line.rstrip() for line in lines)


def _distinct(graph: Graph) -> list[Node]:
    """The operations that the output depends on, without those that repeat an earlier one."""
    first: dict[int, Node] = {}
    for node, number in shared(graph).items():
        first.setdefault(number, node)
    return [node for node in graph.live if node in first.values() or node is graph.output]


def _title(node: Node, graph: Graph, program: Program) -> str:
    """The name that the program gives the result, and the operation."""
    if node.op == "input":
        return "input"
    last = _is_last_of_call(node, graph)
    done = node.place.via if node.place.via and last else _deed(node)
    name = _given_name(node, graph, program)
    if node is graph.output:
        name = "next"
    elif node.place.via and not last:
        return f"· {done}"
    return f"{name} = {done}" if name else done


def _is_last_of_call(node: Node, graph: Graph) -> bool:
    """Whether no later operation belongs to the same call of a library function."""
    return all(other.place != node.place for other in graph.nodes[node.id + 1 :])


def _deed(node: Node) -> str:
    """What an operation does, in a few words."""
    if node.op == "aggr":
        return f"{node.params[1]} where {_relation(node.inputs[0])}"
    if node.op == "sel_width":
        return f"how many {_relation(node.inputs[0])}"
    return node.label.removeprefix("tok_map ").removeprefix("seq_map ").lstrip("_").replace("_", " ")


def _relation(select: Node) -> str:
    name = select.label.removeprefix("select ").lstrip("_")
    return _SIGNS.get(name, name.replace("_", " "))


_SIGNS = {
    **{"equals": "key = query", "gt": "key > query", "geq": "key >= query", "lt": "key < query"},
    **{"leq": "key <= query", "always": "any key", "key_is_true": "key is true"},
}


def _given_name(node: Node, graph: Graph, program: Program) -> str:
    """The variable on the left of the program's own line, for the last operation of that line."""
    top, code = node.place.top, getattr(getattr(program, "__wrapped__", program), "__code__", None)
    if code is None or any(other.place.top == top for other in graph.nodes[node.id + 1 :]):
        return ""
    found = _NAME.match(linecache.getline(code.co_filename, top))
    return found.group(1) if found else ""


def _cells(node: Node, graph: Graph, reading: Reading, tokens: TokenMap) -> list[str]:
    kind = reading.of(node).kind
    values = graph.values[node.id][0].tolist()
    if node.op != "full" and (kind == "boolean" or node.is_bool):
        return ["T" if value == 1 else "." if value == 0 else str(int(value)) for value in values]
    if kind in ("token", "hint", "boolean"):
        return [_token(tokens, int(value)) for value in values]
    return ["-" if value < 0 else str(value) for value in values]


def _token(tokens: TokenMap, value: int) -> str:
    if int(tokens.decode(value)) == NO_TOKEN:
        return str(value) if value >= 0 else "-"
    name = tokens.name(value)
    return _SHORT.get(name, name)


_SHORT = {"<end>": "end", "<pad>": "-"}
"""What stands for -1 is no token of a prompt: it means none."""


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
