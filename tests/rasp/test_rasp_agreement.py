"""The language against its slow reading, on random programs and inputs."""

from __future__ import annotations

import operator

import numpy as np
import pytest
import slow_reading as slow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import genlab.rasp as fast
from genlab.rasp.lang import kernels

SIGNS = {
    **{"+": operator.add, "-": operator.sub, "%": operator.mod, "//": operator.floordiv, "&": operator.and_},
    **{"|": operator.or_, "^": operator.xor, "==": operator.eq, "!=": operator.ne, "<": operator.lt},
    **{"<=": operator.le, ">": operator.gt, ">=": operator.ge},
}
UNARY = {"~": operator.invert, "-": operator.neg, "abs": abs}
PREDICATES = [
    (fast.equals, lambda k, q: k == q),
    (fast.leq, lambda k, q: k <= q),
    (fast.lt, lambda k, q: k < q),
    (fast.geq, lambda k, q: k >= q),
    (fast.gt, lambda k, q: k > q),
    (operator.ne, lambda k, q: k != q),
    *(
        (pred, pred)
        for pred in (
            lambda k, q: True,
            lambda k, q: False,
            lambda k, q: k,
            lambda k, q: q > 0,
            lambda k, q: k == q and k > 0,
            lambda k, q: (k + q) % 3 == 0,
            lambda k, q: k - 1 <= q if q else k,
        )
    ),
]
TOKEN_MAPS = [lambda v: v > 0, abs, lambda v: v % 3, lambda v: 0 - v, lambda v: {0: 5}.get(v, v)]
PAIR_MAPS = [
    max,
    min,
    lambda a, b: a and not b,
    lambda a, b: a if b else -1,
    fast.equals,
    lambda a, b: (a - 2 * b) % 7,
]
REDUCTIONS = ["mean", "max", "min"]
LIBRARY = {
    "one": ["cumsum", "maximum", "minimum", "argmax", "argmin", "mode", "binary_mode"],
    "two": ["num_prev", "has_seen"],
    "two and a default": ["firsts", "lasts", "index_select"],
}


def step(machine, language, number, signs, sequences, draw):
    """Run one drawn operation. `language` 0 is the fast one, 1 the slow one; both get the same draw."""
    a, b, c = (sequences[pick % len(sequences)] for pick in draw[:3])
    const, pick = draw[3], draw[4]
    pred, reduction = PREDICATES[pick % len(PREDICATES)][language], REDUCTIONS[draw[5] % 3]
    names = list(LIBRARY)
    match number:
        case 0:
            return machine.full(a, const)
        case 1:
            return machine.indices(a)
        case 2:
            return machine.tok_map(a, TOKEN_MAPS[pick % len(TOKEN_MAPS)])
        case 3:
            return machine.seq_map(a, b, PAIR_MAPS[pick % len(PAIR_MAPS)])
        case 4 | 5:
            return machine.kqv(a, b, c, pred, const, reduction)
        case 6:
            return machine.sel_width(machine.select(a, b, pred, causal=draw[5] % 2 == 0))
        case 7:
            return machine.aggr(machine.select(a, b, pred, causal=False), c, const, reduction)
        case 8:
            name = LIBRARY[names[0]][pick % len(LIBRARY[names[0]])]
            return getattr(machine, name)(a)
        case 9:
            return getattr(machine, LIBRARY[names[1]][pick % 2])(a, b)
        case 10:
            return getattr(machine, LIBRARY[names[2]][pick % 3])(a, b, const)
        case 11:
            return machine.where(a, b, c) if pick % 2 else machine.mask(a, b, const)
        case 12:
            return machine.shift_right(a, const, draw[5]) if pick % 2 else machine.first_true(a, const)
        case 13:
            found = [machine.induct_kqv, machine.induct, machine.induct_prev][pick % 3]
            given_ = (a, b, c) if pick % 3 == 0 else (a, b)
            return found(*given_, offset=-const if pick % 3 == 2 else const, default=draw[5])
        case _:
            return signs(draw, a, b)


def fast_signs(draw, a, b):
    if draw[5] == 0:
        return UNARY["~"](a)
    sign = list(SIGNS)[draw[4] % len(SIGNS)]
    return SIGNS[sign](a, draw[3] or 3) if draw[5] % 2 or sign in "%//" else SIGNS[sign](a + 0, b)


def slow_signs(draw, a, b):
    if draw[5] == 0:
        return slow.operator("~", a)
    sign = list(SIGNS)[draw[4] % len(SIGNS)]
    if draw[5] % 2 or sign in "%//":
        return slow.operator(sign, a, [draw[3] or 3] * len(a))
    return slow.operator(sign, [int(v) for v in a], b)


DRAWS = st.tuples(
    st.integers(0, 15), *[st.integers(0, 7)] * 3, st.integers(-4, 9), st.integers(0, 40), st.integers(0, 5)
)
PROGRAMS = st.lists(DRAWS, min_size=1, max_size=6)


@st.composite
def inputs(draw):
    """A batch of rows of one length: integers, negative ones among them, or booleans."""
    rows, length = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    if draw(st.booleans()) and draw(st.booleans()):
        values = draw(st.lists(st.booleans(), min_size=rows * length, max_size=rows * length))
        return np.array(values).reshape(rows, length)
    few = draw(st.sampled_from([(0, 1), (-3, 3), (-1000, 1000), (0, 10**12)]))
    values = draw(st.lists(st.integers(*few), min_size=rows * length, max_size=rows * length))
    return np.array(values, np.int64).reshape(rows, length)


def agree(program, batch):
    traced, plain = [fast.sequence(batch)], [batch]
    rows = [[row] for row in batch.tolist()]
    for number, *draw in program:
        traced.append(step(fast, 0, number, fast_signs, traced, draw))
        plain.append(step(fast, 0, number, fast_signs, plain, draw))
        for row in rows:
            row.append(step(slow, 1, number, slow_signs, row, draw))
        expected = [row[-1] for row in rows]
        assert traced[-1].values.tolist() == expected, (number, draw)
        assert plain[-1].tolist() == expected, (number, draw)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(PROGRAMS, inputs())
def test_random_programs(program, batch):
    agree(program, batch)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(PROGRAMS, inputs())
def test_ten_thousand_random_programs(program, batch):
    agree(program, batch)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("pred", range(len(PREDICATES)))
@pytest.mark.parametrize("length", [63, 64, 65])
def test_slices_of_a_batch_and_words_of_keys_do_not_show(monkeypatch, length, pred, reduction):
    monkeypatch.setattr(kernels, "_PAIRS", 1 << 13)
    monkeypatch.setattr(kernels, "_PACKED", 1 << 14)
    monkeypatch.setattr(kernels, "_EVENTS", 1 << 9)
    rng = np.random.default_rng(pred)
    spread = [3, 500][pred % 2]  # few or many different values
    k, q, v = rng.integers(-2, spread, (3, 7, length))
    got = fast.kqv(k, q, v, PREDICATES[pred][0], -7, reduction)
    for row in range(7):
        wanted = slow.kqv(k[row].tolist(), q[row].tolist(), v[row].tolist(), PREDICATES[pred][1], -7, reduction)
        assert got[row].tolist() == wanted


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("pred", range(6))
@pytest.mark.parametrize("kind", ["booleans", "small", "large"])
def test_few_queries_on_keys_and_values_of_all_sizes(kind, pred, reduction):
    rng = np.random.default_rng(pred)
    low, high = {"booleans": (0, 2), "small": (-9, 9), "large": (-(2**55), 2**55)}[kind]
    k, v = rng.integers(low, high, (2, 4, 20))
    k = k > 0 if kind == "booleans" else k
    q = rng.integers(-1, 5, (4, 20))
    got = fast.kqv(k, q, v, PREDICATES[pred][0], -7, reduction)
    for row in range(4):
        wanted = slow.kqv(k[row].tolist(), q[row].tolist(), v[row].tolist(), PREDICATES[pred][1], -7, reduction)
        assert got[row].tolist() == wanted
