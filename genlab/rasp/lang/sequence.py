"""Sequences: the inputs and outputs of every operation of a program.

A `Seq` is a batch of sequences of integers or booleans, [n, pos], together with the operation that produced it. The
numpy operators are shorthand for maps: `x + 1` is a token map, `x + y` maps two sequences, and both are recorded as
such. Anything that would read the values into Python (a loop, an `if`, an index) is not part of the language and
raises `ProgramError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from genlab.rasp.lang.functions import apply_map, as_integers
from genlab.rasp.lang.graph import Graph, Node, ProgramError, here
from genlab.rasp.lang.interpret import kind_of

Values = NDArray[Any]


class Shorthand:
    """A numpy operator used as the function of a map: of two values, or of one value and a constant.

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
        """Equal for operators that compute the same thing."""
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
        except (TypeError, ValueError) as error:  # numpy does not define -x and x - y for booleans
            raise ProgramError(f"{here()}: `{self.__name__}` is not defined here: {error}") from None


_SIGNS = {
    **{"add": "+", "subtract": "-", "multiply": "*", "floor_divide": "//", "remainder": "%", "negative": "-"},
    **{"equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="},
    **{"bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "invert": "~", "absolute": "abs"},
}


class Seq(NDArrayOperatorsMixin):
    """A batch of sequences and the operation that produced it.

    Attributes:
        values: int64 or bool [n, pos].
        node: the operation, as recorded in the graph of the run.
        graph: the graph of the run that the sequence belongs to.
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
        """The kind of its values, at any length: token, boolean, hint, index or count.

        >>> x = sequence([3, 1, 2])
        >>> x.kind, (x == 1).kind, (x == 1).graph is x.graph
        ('token', 'boolean', True)
        """
        return kind_of(self.graph, self.node)

    def __repr__(self) -> str:
        return f"Seq({self.node.label}, {self.values.tolist()})"

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        # `x += y` passes out=(x,). A new sequence is returned, so that other names for x keep their value.
        options.pop("out", None)
        if method != "__call__" or options or ufunc.nout != 1 or ufunc.signature or ufunc is np.divide:
            advice = "use // to divide" if ufunc is np.divide else "only unary and binary operators are maps"
            _refuse(f"numpy's {ufunc.__name__} on a sequence", advice)
        return _operate(ufunc, inputs)

    def __array_function__(self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> NoReturn:
        _refuse(f"numpy's {func.__name__} reads the values of a sequence", "use the operations of the language")

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("numpy reads the values of a sequence", "use the operations of the language")

    def __iter__(self) -> NoReturn:
        _refuse("the program loops over the values of a sequence", "use tok_map, seq_map or kqv")

    def __getitem__(self, key: Any) -> NoReturn:
        _refuse("the program reads single values of a sequence", "use index_select or shift_right")

    def __len__(self) -> NoReturn:
        _refuse("the program asks for the length of a sequence", "use indices: a program is the same at all lengths")

    def __bool__(self) -> NoReturn:
        _refuse("the program branches (if, and, or, not) on the values of a sequence", "use where, &, | or ~")

    def __int__(self) -> NoReturn:
        _refuse("the program converts a sequence to a number", "use tok_map")

    def __index__(self) -> NoReturn:
        _refuse("the program converts a sequence to a number", "use tok_map")

    def __float__(self) -> NoReturn:
        _refuse("the program converts a sequence to a number", "use tok_map")

    def __hash__(self) -> int:
        return id(self)


def sequence(values: Any, graph: Graph | None = None, hints_from: int | None = None) -> Seq:
    """Start a new run whose input is a batch of sequences.

    Args:
        values: integers or booleans, [n, pos], or [pos] for a single sequence.
        graph: the graph that records the run; a new one by default.
        hints_from: the smallest value that is a hint; None if the input holds no hints.

    Raises:
        ProgramError: a value is neither an integer nor a boolean, or the rows differ in length.
    """
    array = _array(values)
    graph = graph or Graph()
    graph.hints_from = hints_from
    array = array if array.ndim == 2 else array[None]
    return Seq(array, graph.add("input", values=array), graph)


def lift(*given: Any) -> tuple[list[Seq], int | None]:
    """Convert the arguments of an operation to sequences of one run.

    Returns:
        The sequences, and the number of axes of the arguments if all of them were plain arrays, else None.
    """
    traced = [x for x in given if isinstance(x, Seq)]
    if not traced:
        arrays = [_array(x) for x in given]
        _check_shapes([a.shape for a in arrays])
        graph = Graph()
        return [sequence(a, graph) for a in arrays], arrays[0].ndim
    graph = traced[0].graph
    if any(x.graph is not graph for x in traced):
        raise ProgramError(f"{here()}: sequences of two runs are mixed; a program may only use its own input")
    _check_shapes([x.shape if isinstance(x, Seq) else _array(x).shape for x in given])
    return [x if isinstance(x, Seq) else _foreign(_array(x), traced[0]) for x in given], None


def unlift(result: Seq, axes: int | None) -> Any:
    """Return the result in the form of the arguments: a sequence, or a plain array if all arguments were arrays."""
    if axes is None:
        return result
    return result.values if axes == 2 else result.values[0]


def _array(values: Any) -> Values:
    if isinstance(values, bool | int | np.number | np.bool_) or values is None:
        raise ProgramError(f"{here()}: {values!r} is not a sequence; full(x, {values!r}) makes one")
    try:
        array = np.asarray(values)
    except ValueError:
        raise ProgramError(f"{here()}: all rows of a batch must have the same length") from None
    array = as_integers(array, "the input")
    if array.ndim not in (1, 2) or not array.shape[-1]:
        raise ProgramError(f"{here()}: a sequence is [pos] or [n, pos] with at least one position, not {array.shape}")
    return array


def _foreign(array: Values, like: Seq) -> Seq:
    """An array that was not computed from the program's input, recorded as such."""
    values = np.broadcast_to(array, like.shape)
    return Seq(values, like.graph.add("foreign", values=values), like.graph)


def _check_shapes(shapes: Sequence[tuple[int, ...]]) -> None:
    lengths = {shape[-1] for shape in shapes}
    if len(lengths) > 1:
        raise ProgramError(f"{here()}: the sequences differ in length: {', '.join(map(str, sorted(lengths)))}")
    rows = {shape[0] for shape in shapes if len(shape) == 2}
    if len(rows) > 1:
        raise ProgramError(f"{here()}: the batches differ in size: {', '.join(map(str, sorted(rows)))}")


def _operate(ufunc: np.ufunc, inputs: Sequence[Any]) -> Seq:
    """Apply a numpy operator to sequences and constants, and record it as a map."""
    sides: list[int | None] = [_constant(x) for x in inputs]
    operands, _ = lift(*(x for x, side in zip(inputs, sides, strict=True) if side is None))
    left, right = (*sides, None)[:2]
    func = Shorthand(ufunc, left, right)
    values = as_integers(apply_map(func, *(x.values for x in operands)), func)
    op = "tok_map" if len(operands) == 1 else "seq_map"
    graph = operands[0].graph
    return Seq(values, graph.add(op, [x.node for x in operands], func, values=values, short=True), graph)


def _constant(x: Any) -> Any:
    """The value of a constant operand, or None if the operand is a sequence."""
    if isinstance(x, bool | int | float | np.number | np.bool_):
        return x.item() if isinstance(x, np.generic) else x
    return None


def _refuse(problem: str, advice: str) -> NoReturn:
    raise ProgramError(f"{here()}: {problem}; {advice}")
