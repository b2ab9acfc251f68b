"""Sequences: what the operations of a program read and give.

A `Seq` is a batch of sequences of integers or booleans, [n, pos], that remembers the operation it came from. numpy's
operators on it are short for maps: `x + 1` is a token map, `x + y` a map of two sequences, and both are recorded
as such. What would read its values into Python (a loop, an `if`, an index) is not part of the language and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from genlab.rasp.lang.functions import apply_map, as_integers
from genlab.rasp.lang.graph import Graph, Node, ProgramError, here

Values = NDArray[Any]


class Shorthand:
    """A numpy operator as the function of a map: of two values, or of one value and a constant.

    >>> minus = Shorthand(np.subtract, left=1)
    >>> minus.__name__, int(minus(5))
    ('1 -', -4)
    """

    __rasp_elementwise__ = True

    def __init__(self, ufunc: np.ufunc, left: int | None = None, right: int | None = None):
        self.ufunc, self.left, self.right = ufunc, left, right
        sign = _SIGNS.get(ufunc.__name__, ufunc.__name__)
        self.__name__ = " ".join(str(part) for part in (left, sign, right) if part is not None)

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for operators that do the same."""
        return (self.ufunc.__name__, self.left, self.right)

    def __call__(self, *values: Any) -> Any:
        operands = [*values]
        if self.left is not None:
            operands.insert(0, self.left)
        if self.right is not None:
            operands.append(self.right)
        try:
            with np.errstate(all="ignore"):
                return self.ufunc(*operands)
        except (TypeError, ValueError) as error:  # numpy has no -x and no x - y of booleans
            raise ProgramError(f"{here()}: `{self.__name__}` is not defined here: {error}") from None


_SIGNS = {
    **{"add": "+", "subtract": "-", "multiply": "*", "floor_divide": "//", "remainder": "%", "negative": "-"},
    **{"equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="},
    **{"bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "invert": "~", "absolute": "abs"},
}


class Seq(NDArrayOperatorsMixin):
    """A batch of sequences and the operation that gave it.

    Attributes:
        values: int64 or bool [n, pos].
        node: the operation, as the graph of the run records it.
        graph: the run that it belongs to.
    """

    __slots__ = ("graph", "node", "values")

    def __init__(self, values: Values, node: Node, graph: Graph):
        self.values, self.node, self.graph = values, node, graph

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and positions."""
        return self.values.shape

    @property
    def kind(self) -> str:
        """What its values are, at any length: token, boolean, hint, index or count.

        >>> x = sequence([3, 1, 2])
        >>> x.kind, (x == 1).kind, (x == 1).graph is x.graph
        ('token', 'boolean', True)
        """
        from genlab.rasp.analysis.interpret import kind_of  # the analysis reads graphs: it stands above the language

        return kind_of(self.graph, self.node)

    def __repr__(self) -> str:
        return f"Seq({self.node.label}, {self.values.tolist()})"

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        # `x += y` comes with out=(x,). It gives a new sequence, so that no other name for x changes with it.
        options.pop("out", None)
        if method != "__call__" or options or ufunc.nout != 1 or ufunc.signature or ufunc is np.divide:
            advice = "use // to divide" if ufunc is np.divide else "only operators of one or two values are maps"
            _refuse(f"numpy's {ufunc.__name__} on a sequence", advice)
        return _operate(ufunc, inputs)

    def __array_function__(self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> NoReturn:
        _refuse(f"numpy's {func.__name__} reads the values of a sequence", "use the operations of the language")

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("numpy reads the values of a sequence", "use the operations of the language")

    def __iter__(self) -> NoReturn:
        _refuse("the program loops over the values of a sequence", "use tok_map, seq_map or kqv")

    def __getitem__(self, key: Any) -> NoReturn:
        _refuse("the program takes single values out of a sequence", "use index_select or shift_right")

    def __len__(self) -> NoReturn:
        _refuse("the program asks for the length of a sequence", "use indices: a program is the same at all lengths")

    def __bool__(self) -> NoReturn:
        _refuse("the program decides (if, and, or, not) on the values of a sequence", "use where, &, | or ~")

    def __int__(self) -> NoReturn:
        _refuse("the program turns a sequence into a number", "use tok_map")

    def __index__(self) -> NoReturn:
        _refuse("the program turns a sequence into a number", "use tok_map")

    def __float__(self) -> NoReturn:
        _refuse("the program turns a sequence into a number", "use tok_map")

    def __hash__(self) -> int:
        return id(self)


def sequence(values: Any, graph: Graph | None = None, hints_from: int | None = None) -> Seq:
    """A batch of sequences [n, pos] (or one, [pos]) as the input of a new run.

    With `hints_from`, its values from there up are hints.

    Raises:
        ProgramError: a value that is neither an integer nor a boolean, or rows of unequal length.
    """
    array = _array(values)
    graph = graph or Graph()
    graph.hints_from = hints_from
    array = array if array.ndim == 2 else array[None]
    return Seq(array, graph.add("input", values=array), graph)


def lift(*given: Any) -> tuple[list[Seq], int | None]:
    """Arguments as sequences of one run; and, where all were plain arrays, how many axes they had (else None)."""
    traced = [x for x in given if isinstance(x, Seq)]
    if not traced:
        arrays = [_array(x) for x in given]
        _same_length([a.shape for a in arrays])
        graph = Graph()
        return [sequence(a, graph) for a in arrays], arrays[0].ndim
    graph = traced[0].graph
    if any(x.graph is not graph for x in traced):
        raise ProgramError(f"{here()}: sequences of two runs meet; a program works on its own input alone")
    _same_length([x.shape if isinstance(x, Seq) else _array(x).shape for x in given])
    return [x if isinstance(x, Seq) else _foreign(_array(x), traced[0]) for x in given], None


def unlift(result: Seq, axes: int | None) -> Any:
    """The result as its caller wants it: a sequence, or a plain array where only those went in."""
    if axes is None:
        return result
    return result.values if axes == 2 else result.values[0]


def _array(values: Any) -> Values:
    if isinstance(values, bool | int | np.number | np.bool_) or values is None:
        raise ProgramError(f"{here()}: {values!r} stands where a sequence must; full(x, {values!r}) makes one")
    try:
        array = np.asarray(values)
    except ValueError:
        raise ProgramError(f"{here()}: the rows of a batch must have one length") from None
    array = as_integers(array, "the input")
    if array.ndim not in (1, 2) or not array.shape[-1]:
        raise ProgramError(f"{here()}: a sequence is [pos] or [n, pos] with a position at least, not {array.shape}")
    return array


def _foreign(array: Values, beside: Seq) -> Seq:
    """An array that a program brings along: not computed from its input, and recorded as that."""
    values = np.broadcast_to(array, beside.shape)
    return Seq(values, beside.graph.add("foreign", values=values), beside.graph)


def _same_length(shapes: Sequence[tuple[int, ...]]) -> None:
    lengths = {shape[-1] for shape in shapes}
    if len(lengths) > 1:
        raise ProgramError(f"{here()}: sequences of unequal length meet: {', '.join(map(str, sorted(lengths)))}")
    rows = {shape[0] for shape in shapes if len(shape) == 2}
    if len(rows) > 1:
        raise ProgramError(f"{here()}: batches of unequal size meet: {', '.join(map(str, sorted(rows)))}")


def _operate(ufunc: np.ufunc, inputs: Sequence[Any]) -> Seq:
    """A numpy operator on sequences and constants, recorded as the map that it is."""
    sides: list[int | None] = [_constant(x) for x in inputs]
    operands, _ = lift(*(x for x, side in zip(inputs, sides, strict=True) if side is None))
    left, right = (*sides, None)[:2]
    func = Shorthand(ufunc, left, right)
    values = as_integers(apply_map(func, *(x.values for x in operands)), func)
    op = "tok_map" if len(operands) == 1 else "seq_map"
    graph = operands[0].graph
    return Seq(values, graph.add(op, [x.node for x in operands], func, values=values, short=True), graph)


def _constant(x: Any) -> Any:
    """The number that an operand is, or None where it is a sequence."""
    if isinstance(x, bool | int | float | np.number | np.bool_):
        return x.item() if isinstance(x, np.generic) else x
    return None


def _refuse(what: str, instead: str) -> NoReturn:
    raise ProgramError(f"{here()}: {what}; {instead}")
