"""Enumeration of programs by size, modulo what they compute on a batch of inputs.

A *node* is a behavior: the values of a sequence at every position of the batch, or the pairs that a selection
selects, together with its kind (`Kinds`). A *support* is a set of nodes that a program computes to get to a node, the
node itself among them: the operations of that program after equal ones are shared, as `Complexity.length` counts
them. A node may have several supports, none a subset of another; a longer one can be worth it for what it shares.

Level n is made of all supports of n nodes: of two arguments whose supports have n - 1 nodes together, by one more
operation. So every program of at most n operations has, up to equal behavior on the batch, been looked at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genlab.rasp.search.arrays import Hasher, Ints, KeyTable, Table, Values, mixed
from genlab.rasp.search.grammar import COUNT, ILLEGAL, Grammar, Kinds
from genlab.rasp.search.supports import Gathered, Supports, crossed, no_sets, overlapping

INPUT = 0
"""The node of the input, which costs nothing."""
_CHUNK = 2048
_EARLY = 16


@dataclass(frozen=True)
class Batch:
    """Inputs of a search, one after another.

    Attributes:
        values: the tokens of all inputs, int[pos].
        starts: where each input starts, int[row].
        target: the next token where it is scored, int[scored].
        scored: the positions that are scored, int[scored].
    """

    values: Ints
    starts: Ints
    target: Ints
    scored: Ints

    @property
    def lengths(self) -> Ints:
        """The number of tokens of each input, int[row]."""
        return np.diff(self.starts, append=len(self.values))

    @property
    def places(self) -> Ints:
        """The index of each position in its own input, int[pos]."""
        return np.arange(len(self.values)) - np.repeat(self.starts, self.lengths)

    def pairs(self, queries: Ints) -> tuple[Ints, Ints, Ints]:
        """The keys and queries that a causal selection may relate, for some of the queries.

        Returns:
            Key and query of each pair, int[pair], ordered by query, and the first pair of each query, int[query].
        """
        counts = self.places[queries] + 1
        first = np.cumsum(counts) - counts
        query = np.repeat(queries, counts)
        key = query - np.repeat(counts - 1, counts) + np.arange(counts.sum()) - np.repeat(first, counts)
        return key, query, first


_TABLES = ("values", "bits", "row", "kind", "size", "is_select", "seen")
_PARTS = ("nodes", "sets")


@dataclass(frozen=True)
class Level:
    """What one level came to.

    Attributes:
        size: the number of operations.
        behaviors: distinct behaviors seen so far, selections among them.
        supports: supports so far.
        candidates: operations computed so far.
        seconds: time that this level took.
    """

    size: int
    behaviors: int
    supports: int
    candidates: int
    seconds: float


class Enumeration:
    """All behaviors on one batch, by the number of operations.

    Attributes:
        levels: what was seen, by level.
    """

    def __init__(self, grammar: Grammar, hints_from: int | None, batch: Batch, max_ops: int):
        self.grammar, self.batch = grammar, batch
        self.kinds = Kinds(grammar, hints_from)
        largest = max(2048, int(np.abs(batch.values).max())) << (0 if grammar.rules == "strict" else max_ops)
        self.dtype: Any = np.int16 if largest < 1 << 15 else np.int32
        everywhere = np.arange(len(batch.values))
        self.key, self.query, self.first = batch.pairs(everywhere)
        self._scored_pairs = batch.pairs(batch.scored)
        self.values = Table(len(everywhere), self.dtype)
        self.bits = Table(-(-len(self.key) // 8), np.uint8)
        self._hash = Hasher(len(everywhere), 1)
        self._hash_bits = Hasher(self.bits.array.shape[1], 2)
        self._keys = KeyTable()
        self.row, self.kind, self.size = Table(None, np.int32), Table(None, np.uint8), Table(None, np.uint8)
        self.is_select, self.seen = Table(None, np.bool_), Table(None, np.int32)
        self._seen_sets: list[tuple[int, ...]] = []
        self._seen_ids: dict[tuple[int, ...], int] = {}
        self.of_size: dict[tuple[bool, int], Supports] = {}
        self.levels: list[Level] = []
        self.candidates = 0
        self.ticker: Callable[[], None] = lambda: None
        self._record(batch.values[None].astype(self.dtype), np.array([self.kinds.of_input]), False, 0)

    # -- Where it stands, as arrays

    def state(self) -> dict[str, Values]:
        """Everything that `restore` needs beside the batch."""
        tables = {name: getattr(self, name).rows for name in _TABLES}
        parts = {f"{part}-{kind:d}-{n}": getattr(s, part) for (kind, n), s in self.of_size.items() for part in _PARTS}
        about = [asdict(level) for level in self.levels], self._seen_sets
        return {**tables, **parts, **self._keys.state(), "levels": np.array(json.dumps(about))}

    def restore(self, state: Mapping[str, Values]) -> None:
        """Take up the state of an enumeration on the same batch."""
        levels, seen = json.loads(str(state["levels"]))
        self.levels = [Level(**level) for level in levels]
        self._seen_sets = [tuple(tokens) for tokens in seen]
        self._seen_ids = {tokens: i for i, tokens in enumerate(self._seen_sets)}
        for name in _TABLES:
            table: Table = getattr(self, name)
            table.size = 0
            table.append(state[name])
        self._keys.restore(state)
        self.candidates = self.levels[-1].candidates
        for size in range(1, len(self.levels) + 1):
            for kind in (False, True):
                self.of_size[kind, size] = Supports(*(state[f"{part}-{kind:d}-{size}"] for part in _PARTS))

    # -- Nodes

    @property
    def count(self) -> int:
        """The number of nodes."""
        return self.row.size

    def values_of(self, nodes: Values) -> Values:
        """The values of nodes, int[node, pos]."""
        return self.values.array[self.row.array[nodes]]

    def _record(self, rows: Values, kinds: Values, is_select: bool, size: int) -> NDArray[np.int32]:
        """The nodes of these behaviors; new ones are added, unless `size` is negative (then -1)."""
        hashed = self._hash_bits(rows) if is_select else self._hash(rows)
        keys = hashed ^ mixed(kinds.astype(np.int64) * 2 + is_select + 1)
        ids = self._keys.find(keys)
        if size < 0 or (ids >= 0).all():
            return ids
        fresh = np.flatnonzero(ids < 0)
        distinct, first, inverse = np.unique(keys[fresh], return_index=True, return_inverse=True)
        new = np.arange(self.count, self.count + len(distinct), dtype=np.int32)
        picked = fresh[first]
        table = self.bits if is_select else self.values
        self.row.append(np.arange(table.size, table.size + len(distinct)))
        table.append(rows[picked])
        self.kind.append(kinds[picked])
        self.size.append(np.full(len(distinct), size))
        self.is_select.append(np.full(len(distinct), is_select))
        self.seen.append(np.zeros(len(distinct)) if is_select else self._tokens_seen(rows[picked]))
        self._keys.add(distinct, new)
        ids[fresh] = new[inverse]
        return ids

    def _tokens_seen(self, rows: Values) -> Ints:
        """Which of the tokens that matter to legality occur in each row, as a number."""
        if not self.kinds.tracked:
            return np.zeros(len(rows), np.int64)
        watched = sorted({0, 1, -2, *self.grammar.constants, *self.grammar.defaults})
        present = np.stack([(rows == value).any(axis=1) for value in watched], axis=1)
        codes = present @ (1 << np.arange(len(watched)))
        out = np.empty(len(rows), np.int64)
        for code in np.unique(codes):
            tokens = tuple(value for place, value in enumerate(watched) if int(code) >> place & 1)
            if tokens not in self._seen_ids:
                self._seen_ids[tokens] = len(self._seen_sets)
                self._seen_sets.append(tokens)
            out[codes == code] = self._seen_ids[tokens]
        return out

    # -- Operations
    #
    # Each yields a label, the arguments that it is legal for, and their results: rows of values or of packed pairs.

    Result = tuple[tuple[Any, ...], Ints, Values, Values]

    def _kinds_of(self, function: Any, *nodes: Values) -> Ints:
        """The kind of a map of these nodes, int[node]; `ILLEGAL` where it is illegal."""
        kinds = [self.kind.array[n].astype(np.int64) for n in nodes]
        if not any(k.any() for k in kinds):
            return np.zeros(len(nodes[0]), np.int64)
        seen = [self.seen.array[n].astype(np.int64) for n in nodes]
        code = np.zeros(len(nodes[0]), np.int64)
        for k, s in zip(kinds, seen, strict=True):
            s[k != 0] = 0  # tokens matter only beside a scale
            code = (code * 16 + k) * 4096 + s
        _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
        known = [
            self.kinds.of_map(
                function, tuple(int(k[i]) for k in kinds), tuple(self._seen_sets[int(s[i])] for s in seen)
            )
            for i in first.tolist()
        ]
        return np.array(known)[inverse]

    def _maps(self, nodes: Values, table: Values) -> Iterator[Result]:
        """Token maps; `table` has the values of all nodes at the positions wanted."""
        x = table[self.row.array[nodes]]
        for number, function in enumerate(self.grammar.token_maps):
            kinds = self._kinds_of(function, nodes)
            legal = np.flatnonzero(kinds != ILLEGAL)
            if len(legal):
                yield ("tok_map", number), legal, self._as_values(function.func(x))[legal], kinds[legal]

    def _pair_maps(self, left: Values, right: Values, table: Values) -> Iterator[Result]:
        """Sequence maps, of the arguments in both orders."""
        a, b = table[self.row.array[left]], table[self.row.array[right]]
        for number, function in enumerate(self.grammar.sequence_maps):
            for swapped in (False,) if function.symmetric else (False, True):
                one, two = (right, left) if swapped else (left, right)
                kinds = self._kinds_of(function, one, two)
                legal = np.flatnonzero(kinds != ILLEGAL)
                if not len(legal):
                    continue
                x, y = (b, a) if swapped else (a, b)
                if len(legal) < len(x):
                    x, y = x[legal], y[legal]
                yield ("seq_map", number, swapped), legal, self._as_values(function.func(x, y)), kinds[legal]

    def _as_values(self, rows: Any) -> Values:
        return np.asarray(rows).astype(self.dtype, copy=False)

    def _key_selects(self, nodes: Values) -> Iterator[Result]:
        """Selections by the key alone; the query is the input."""
        x = self.values.array[self.row.array[nodes]]
        for number, function in enumerate(self.grammar.key_predicates):
            if function.text == "True":
                wanted = np.flatnonzero(nodes == INPUT)
            else:
                found = [self.kinds.of_select(function, k, self.kinds.of_input, True)[0] for k in range(16)]
                wanted = np.flatnonzero(np.array(found)[self.kind.array[nodes]] != ILLEGAL)
            if len(wanted):
                met = function.func(x[wanted], x[wanted])[:, self.key]
                undefined = self.kind.array[nodes[wanted]] & 8
                yield ("key_select", number), wanted, np.packbits(met, axis=1), undefined

    def _selects(self, left: Values, right: Values) -> Iterator[Result]:
        """Selections by key and query, of the arguments in both orders."""
        a, b = self.values_of(left), self.values_of(right)
        at_key, at_query = (a[:, self.key], b[:, self.key]), (a[:, self.query], b[:, self.query])
        kinds = self.kind.array[left].astype(np.int64), self.kind.array[right].astype(np.int64)
        for swapped in (False, True):
            key, query = int(swapped), int(not swapped)
            code = kinds[key] * 16 + kinds[query]
            for number, function in enumerate(self.grammar.predicates):
                out, legal = np.zeros(len(left), np.int64), np.ones(len(left), np.bool_)
                for each in np.unique(code).tolist():
                    kind, extreme = self.kinds.of_select(function, each >> 4, each & 15, False)
                    rows = code == each
                    out[rows], legal[rows] = kind, kind != ILLEGAL
                    if extreme:
                        values, queries = (a, b)[key][rows][:, self.key], (a, b)[query][rows]
                        most = np.maximum.reduceat(values, self.first, axis=1) == queries
                        least = np.minimum.reduceat(values, self.first, axis=1) == queries
                        legal[rows] &= most.all(axis=1) | least.all(axis=1)
                picks = np.flatnonzero(legal)
                if swapped:
                    picks = picks[left[picks] != right[picks]]
                if len(picks):
                    met = function.func(at_key[key][picks], at_query[query][picks])
                    yield ("select", number, swapped), picks, np.packbits(met, axis=1), out[picks]

    def _widths(self, selects: Values, scored: bool) -> Iterator[Result]:
        """The number of selected keys."""
        met = self._unpacked(selects)
        counts = np.add.reduceat(met, self.first, axis=1, dtype=np.int32)
        counts = self._as_values(counts[:, self.batch.scored] if scored else counts)
        tracked = COUNT if self.kinds.tracked else 0
        kinds = tracked | self.kind.array[selects].astype(np.int64)
        yield ("sel_width",), np.arange(len(selects)), counts, kinds

    def _unpacked(self, selects: Values) -> Values:
        return np.unpackbits(self.bits.array[self.row.array[selects]], axis=1, count=len(self.key))

    def _aggregates(self, selects: Values, nodes: Values, scored: bool) -> Iterator[Result]:
        """Aggregations; the pairs must be ordered by selection."""
        key, _, first = self._scored_pairs if scored else (self.key, self.query, self.first)
        wanted = self._scored_mask if scored else slice(None)
        pairs, width = len(selects), len(first)
        results = {reduction: np.zeros((pairs, width), self.dtype) for reduction in self.grammar.reductions}
        empty, one_key = np.ones((pairs, width), np.bool_), np.zeros(pairs, np.bool_)
        distinct, starts = np.unique(selects, return_index=True)
        for select, start, stop in zip(distinct, starts, [*starts[1:], pairs], strict=True):
            rows = slice(start, stop)
            met = self._unpacked(np.array([select]))[0].astype(np.bool_)[wanted]
            counts = np.add.reduceat(met, first, dtype=np.int32)
            some = np.flatnonzero(counts)
            one_key[rows] = counts.max(initial=0) <= 1
            if not len(some):
                continue
            empty[rows, some] = False
            segments = (np.cumsum(counts) - counts)[some]
            chosen = self.values_of(nodes[rows])[:, key[met]]
            for reduction in ("max",) if one_key[start] else self.grammar.reductions:
                results[reduction][rows, some] = self._reduced(chosen, segments, counts[some], reduction)
        leaves_some = empty.any(axis=1)
        code = self.kind.array[selects].astype(np.int64) * 32 + self.kind.array[nodes] * 2 + one_key
        kinds_of = {
            (c, r): self.kinds.of_aggr(c >> 5, c >> 1 & 15, r, bool(c & 1))
            for c in np.unique(code).tolist()
            for r in results
        }
        for reduction, out in results.items():
            kinds = np.array([kinds_of[c, reduction] for c in code.tolist()])
            legal = (kinds != ILLEGAL) & ((reduction == "max") | ~one_key)
            for number, default in enumerate(self.grammar.defaults):
                picks = np.flatnonzero(legal & leaves_some if number else legal)
                if len(picks):
                    filled = np.where(empty[picks], self.dtype(default), out[picks])
                    yield ("aggr", reduction, default), picks, filled, kinds[picks]

    def _reduced(self, chosen: Values, segments: Ints, counts: Values, reduction: str) -> Values:
        if reduction == "mean":
            return np.trunc(np.add.reduceat(chosen, segments, axis=1, dtype=np.int64) / counts)
        return (np.maximum if reduction == "max" else np.minimum).reduceat(chosen, segments, axis=1)

    @property
    def _scored_mask(self) -> NDArray[np.bool_]:
        return np.isin(self.query, self.batch.scored)

    def _leaves(self) -> Iterator[tuple[tuple[Any, ...], Values, int]]:
        """Operations without an argument."""
        place = 2 if self.kinds.tracked else 0
        yield ("indices",), self._as_values(self.batch.places), place
        for constant in self.grammar.constants:
            yield ("full", constant), np.full(len(self.batch.values), constant, self.dtype), 0

    # -- Levels

    def grow(self) -> Level:
        """Enumerate the next level, and return what it came to."""
        size, began = len(self.levels) + 1, time.monotonic()
        new = Gathered()
        if size == 1:
            for _, row, kind in self._leaves():
                self._keep(new, self._record(row[None], np.array([kind]), False, 1), no_sets(1))
        for nodes, sets in self._single(size - 1, False):
            self._each(new, size, nodes, sets, False, lambda x: self._maps(x, self.values.array))
            self._each(new, size, nodes, sets, True, self._key_selects)
        for nodes, sets in self._single(size - 1, True):
            self._each(new, size, nodes, sets, False, lambda x: self._widths(x, scored=False))
        for left, right, sets in self._value_pairs(size - 1):
            self._each_pair(
                new, size, left, right, sets, False, lambda a, b: self._pair_maps(a, b, self.values.array)
            )
            self._each_pair(new, size, left, right, sets, True, self._selects)
        for left, right, sets in self._select_pairs(size - 1):
            self._each_pair(new, size, left, right, sets, False, lambda s, v: self._aggregates(s, v, scored=False))
        for is_select in (False, True):
            self.of_size[is_select, size] = new.supports(self.is_select.rows, is_select, size)
        supports = sum(len(each) for each in self.of_size.values())
        level = Level(size, self.count, supports, self.candidates, time.monotonic() - began)
        self.levels.append(level)
        return level

    def _each(
        self, new: Gathered, size: int, nodes: Values, sets: Values, is_select: bool, operate: Callable[..., Any]
    ) -> None:
        """Apply operations of one argument to nodes with these supports."""
        self._each_pair(new, size, nodes, nodes, sets, is_select, lambda one, _: operate(one))

    def _each_pair(
        self,
        new: Gathered,
        size: int,
        left: Values,
        right: Values,
        sets: Values,
        is_select: bool,
        operate: Callable[..., Any],
    ) -> None:
        """Apply operations of two arguments to pairs of nodes with these joint supports."""
        code = left.astype(np.int64) << 32 | right
        order = np.argsort(code, kind="stable")
        code, sets = code[order], sets[order]
        fresh = np.ones(len(code), np.bool_)
        fresh[1:] = code[1:] != code[:-1]
        starts = np.flatnonzero(fresh)  # of each pair of nodes
        which = np.cumsum(fresh) - 1
        ends = np.append(starts[1:], len(code))
        for begin in range(0, len(starts), _CHUNK):
            pairs = code[starts[begin : begin + _CHUNK]]
            rows = slice(starts[begin], ends[begin + len(pairs) - 1])
            for _, picks, results, kinds in operate(*_apart(pairs)):
                self.candidates += len(picks)
                self.ticker()
                ids = np.full(len(pairs), -1, np.int32)
                ids[picks] = self._record(results, kinds, is_select, size)
                of_supports = ids[which[rows] - begin]
                keep = of_supports >= 0
                self._keep(new, of_supports[keep], sets[rows][keep])

    def _keep(self, new: Gathered, nodes: Values, sets: Values) -> None:
        """Gather supports that no other support of the same node is a subset of."""
        size = sets.shape[1] + 1
        known = self.size.array[nodes]
        keep = (known == size) | ((known > 1) & ~(sets == nodes[:, None]).any(axis=1))
        nodes, sets = nodes[keep], sets[keep]
        older = np.flatnonzero(self.size.array[nodes] < size)
        if len(older):
            dominated = np.zeros(len(nodes), np.bool_)
            dominated[older] = self._dominated(nodes[older], sets[older])
            nodes, sets = nodes[~dominated], sets[~dominated]
        new.add(nodes, sets)

    def _dominated(self, nodes: Values, sets: Values) -> NDArray[np.bool_]:
        """Whether a smaller support of the node is a subset of the set and the node."""
        out = np.zeros(len(nodes), np.bool_)
        selects = self.is_select.array[nodes]
        for (is_select, _), supports in self.of_size.items():
            rows = np.flatnonzero((selects == is_select) & ~out)
            if not len(rows) or not len(supports):
                continue
            start = np.searchsorted(supports.nodes, nodes[rows])
            counts = np.searchsorted(supports.nodes, nodes[rows], side="right") - start
            which = np.repeat(np.arange(len(rows)), counts)
            other = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(start, counts)
            old, this = supports.sets[other], sets[rows[which]]
            inside = ((old[:, :, None] == this[:, None, :]).any(2) | (old == nodes[rows[which], None])).all(1)
            out[rows[which[inside]]] = True
        return out

    def _single(self, size: int, is_select: bool) -> Iterator[tuple[Values, Values]]:
        """The nodes of one type with supports of a size, and these."""
        if size == 0 and not is_select:
            yield np.array([INPUT], np.int32), no_sets(1)
        elif size and len(supports := self.of_size[is_select, size]):
            yield supports.nodes, supports.sets

    def _supports(self, is_select: bool, size: int) -> Supports:
        """The supports of one type and size; of size 0, the input's."""
        if size == 0:
            count = 0 if is_select else 1
            return Supports(np.full(count, INPUT, np.int32), no_sets(count))
        return self.of_size[is_select, size]

    def _value_pairs(self, size: int) -> Iterator[tuple[Values, Values, Values]]:
        """Unordered pairs of sequences whose joint supports have `size` nodes: nodes, nodes, joint supports."""
        if size == 0:
            yield np.array([INPUT], np.int32), np.array([INPUT], np.int32), no_sets(1)
            return
        for larger in range(size, 0, -1):
            for smaller in range(larger + 1):
                overlap = larger + smaller - size
                if overlap == 0:
                    yield from crossed(self._supports(False, larger), self._supports(False, smaller), size)
                elif overlap > 0 and larger < size:
                    one, two = self._supports(False, larger), self._supports(False, smaller)
                    yield from overlapping(one, two, overlap, size, same=larger == smaller)
        whole = self._supports(False, size)
        for column in range(size):
            inner = whole.sets[:, column]
            rows = ~self.is_select.array[inner]
            yield whole.nodes[rows], inner[rows], whole.sets[rows]

    def _select_pairs(self, size: int) -> Iterator[tuple[Values, Values, Values]]:
        """Pairs of a selection and a sequence whose joint supports have `size` nodes."""
        for one in range(1, size + 1):
            for two in range(size + 1):
                overlap = one + two - size
                if overlap == 0:
                    yield from crossed(self._supports(True, one), self._supports(False, two), size)
                elif overlap > 0 and one < size and two < size:
                    yield from overlapping(self._supports(True, one), self._supports(False, two), overlap, size)
        if size:
            for is_select in (True, False):
                whole = self._supports(is_select, size)
                for column in range(size):
                    inner = whole.sets[:, column]
                    rows = self.is_select.array[inner] != is_select
                    one, two = whole.nodes[rows], inner[rows]
                    yield (one, two, whole.sets[rows]) if is_select else (two, one, whole.sets[rows])

    # -- The last level: only what is right counts

    def matches(self) -> Iterator[Match]:
        """Programs of one operation more than the last level that are right on the batch; stores no level."""
        size = len(self.levels) + 1
        target = self.batch.target.astype(self.dtype)
        for _, row, kind in self._leaves() if size == 1 else ():
            if np.array_equal(row[self.batch.scored], target) and self.kinds.may_be_written(kind):
                yield Match(self._record(row[None], np.array([kind]), False, size)[0], ())
        tables = self._tables()
        early = tables["early"].shape[1] < len(target)
        for nodes, sets in self._single(size - 1, False):
            yield from self._right(nodes, nodes, sets, lambda a, _, at: self._maps(a, tables[at]), early=False)
        for nodes, sets in self._single(size - 1, True):
            yield from self._right(nodes, nodes, sets, lambda a, _, at: self._widths(a, at == "scored"), early=False)
        for left, right, sets in self._value_pairs(size - 1):
            yield from self._right(left, right, sets, lambda a, b, at: self._pair_maps(a, b, tables[at]), early)
        for left, right, sets in self._select_pairs(size - 1):
            yield from self._right(
                left, right, sets, lambda s, v, at: self._aggregates(s, v, at == "scored"), early=False
            )

    def _tables(self) -> dict[str, Values]:
        """The values of all nodes at all positions, where they are scored, and at a few of these to try first."""
        scored = self.values.rows[:, self.batch.scored]
        return {"all": self.values.array, "scored": scored, "early": np.ascontiguousarray(scored[:, self._few])}

    @property
    def _few(self) -> Ints:
        """Which scored positions are tried first, int[few]."""
        return np.unique(np.linspace(0, len(self.batch.scored) - 1, _EARLY).astype(int))

    def _right(
        self,
        left: Values,
        right: Values,
        sets: Values,
        operate: Callable[[Values, Values, str], Iterator[Result]],
        early: bool,
    ) -> Iterator[Match]:
        """Pairs of nodes of which an operation gives the target.

        Args:
            left, right, sets: the arguments and their joint supports.
            operate: the operations, given arguments and the positions wanted: `early`, `scored` or `all`.
            early: whether to try a few positions first.
        """
        target = self.batch.target.astype(self.dtype)
        code, index = np.unique(left.astype(np.int64) << 32 | right, return_index=True)
        for start in range(0, len(code), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(code)))
            if early:
                rows = rows[self._gives(code[rows], operate, "early", target[self._few], True)]
            for row in rows[self._gives(code[rows], operate, "scored", target, not early)].tolist():
                for _, _, values, kinds in operate(*_apart(code[row : row + 1]), "all"):
                    if np.array_equal(values[0][self.batch.scored], target) and self.kinds.may_be_written(
                        int(kinds[0])
                    ):
                        node = self._record(values, kinds, False, len(self.levels) + 1)[0]
                        yield Match(int(node), tuple(sets[index[row]].tolist()))

    def _gives(
        self,
        code: Ints,
        operate: Callable[[Values, Values, str], Iterator[Result]],
        at: str,
        target: Values,
        counted: bool,
    ) -> NDArray[np.bool_]:
        """Whether some operation on each pair gives the target at these positions, bool[pair]."""
        out = np.zeros(len(code), np.bool_)
        if not len(code):
            return out
        for _, picks, rows, kinds in operate(*_apart(code), at):
            self.candidates += len(picks) if counted else 0
            self.ticker()
            right = (rows == target).all(axis=1)
            if right.any():
                right &= np.array([self.kinds.may_be_written(int(kind)) for kind in kinds])
                out[picks[right]] = True
        return out

    # -- From nodes back to a program

    def derivations(self, match: Match) -> Iterator[list[tuple[int, tuple[Any, ...], tuple[int, ...]]]]:
        """Programs that compute what a match needs: a list of node, operation and arguments, in order."""
        wanted = {*match.needed, match.node}
        known: list[int] = [INPUT]
        ways: list[tuple[int, list[tuple[tuple[Any, ...], tuple[int, ...]]]]] = []
        while wanted:
            found: dict[int, list[tuple[tuple[Any, ...], tuple[int, ...]]]] = {}
            for label, arguments, node in self._all_of(known):
                if node in wanted:
                    found.setdefault(node, []).append((label, arguments))
            if not found:  # a support is complete by construction
                raise AssertionError(f"{wanted} cannot be computed from {known}")
            known += found
            ways += found.items()
            wanted -= found.keys()
        for choice in product(*(options for _, options in ways)):
            yield [(node, *way) for (node, _), way in zip(ways, choice, strict=True)]

    def _all_of(self, nodes: list[int]) -> Iterator[tuple[tuple[Any, ...], tuple[int, ...], int]]:
        """Every operation on these nodes, with the node of its result; -1 if it is unknown."""
        array = np.array(nodes, np.int32)
        selects = array[self.is_select.array[array]]
        values = array[~self.is_select.array[array]]
        for label, row, kind in self._leaves():
            yield label, (), int(self._record(row[None], np.array([kind]), False, -1)[0])
        left, right = (grid.reshape(-1) for grid in np.meshgrid(values, values, indexing="ij"))
        unordered = left <= right
        left, right = left[unordered], right[unordered]
        which, what = (grid.reshape(-1) for grid in np.meshgrid(selects, values, indexing="ij"))
        for results, arguments, is_select in (
            (self._maps(values, self.values.array), (values,), False),
            (self._key_selects(values), (values,), True),
            (self._pair_maps(left, right, self.values.array), (left, right), False),
            (self._selects(left, right), (left, right), True),
            (self._widths(selects, scored=False) if len(selects) else (), (selects,), False),
            (self._aggregates(which, what, scored=False) if len(selects) else (), (which, what), False),
        ):
            for label, picks, rows, kinds in results:
                ids = self._record(rows, kinds, is_select, -1)
                for pick, node in zip(picks.tolist(), ids.tolist(), strict=True):
                    yield label, tuple(int(each[pick]) for each in arguments), node


@dataclass(frozen=True)
class Match:
    """A program that is right on the batch: the node of its result, and the nodes that it computes before."""

    node: int
    needed: tuple[int, ...]


def _apart(code: Ints) -> tuple[Values, Values]:
    """The two nodes that each number stands for."""
    return (code >> 32).astype(np.int32), (code & 0xFFFFFFFF).astype(np.int32)
