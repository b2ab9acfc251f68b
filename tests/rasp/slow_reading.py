"""The language read slowly: every definition as a double loop over Python lists, written apart from `genlab.rasp`.

A sequence is a list of ints, or of bools where a comparison operator gave it. Definitions: Zhou et al. 2023.
"""

from __future__ import annotations


def full(x, c):
    return [int(c) for _ in x]


def indices(x):
    return [i for i, _ in enumerate(x)]


def tok_map(x, f):
    return [int(f(v)) for v in x]


def seq_map(x, y, f):
    return [int(f(a, b)) for a, b in zip(x, y, strict=True)]


def select(k, q, pred, causal=True):
    return [[bool(pred(k[j], q[i])) and (j <= i or not causal) for j in range(len(k))] for i in range(len(q))]


def sel_width(selected):
    return [sum(1 for met in row if met) for row in selected]


def aggr(selected, v, default=0, reduction="mean"):
    out = []
    for row in selected:
        chosen = [int(v[j]) for j, met in enumerate(row) if met]
        if not chosen:
            out.append(default)
        elif reduction == "mean":
            size = abs(sum(chosen)) // len(chosen)
            out.append(size if sum(chosen) >= 0 else -size)
        else:
            out.append(max(chosen) if reduction == "max" else min(chosen))
    return out


def kqv(k, q, v, pred, default=0, reduction="mean"):
    return aggr(select(k, q, pred), v, default, reduction)


def shift_right(x, n, default=0):
    return [int(x[i - n]) if 0 <= i - n <= i else default for i in range(len(x))]


def cumsum(b):
    return [sum(1 for v in b[: i + 1] if v) for i in range(len(b))]


def where(c, x, y):
    return [int(a) if m else int(b) for m, a, b in zip(c, x, y, strict=True)]


def mask(x, m, mask_val=0):
    return [int(v) if keep else mask_val for v, keep in zip(x, m, strict=True)]


def maximum(x):
    return [max(int(v) for v in x[: i + 1]) for i in range(len(x))]


def minimum(x):
    return [min(int(v) for v in x[: i + 1]) for i in range(len(x))]


def argmax(x):
    return [max(j for j in range(i + 1) if x[j] == max(x[: i + 1])) for i in range(len(x))]


def argmin(x):
    return [max(j for j in range(i + 1) if x[j] == min(x[: i + 1])) for i in range(len(x))]


def num_prev(x, q):
    return [sum(1 for j in range(i + 1) if x[j] == q[i]) for i in range(len(x))]


def has_seen(x, q):
    return [int(any(x[j] == q[i] for j in range(i + 1))) for i in range(len(x))]


def firsts(x, q, default=-1):
    return [min((j for j in range(i + 1) if x[j] == q[i]), default=default) for i in range(len(x))]


def lasts(x, q, default=-1):
    return [max((j for j in range(i + 1) if x[j] == q[i]), default=default) for i in range(len(x))]


def index_select(x, idx, default=0):
    return [int(x[j]) if 0 <= j <= i else default for i, j in enumerate(idx)]


def first_true(x, default=-1):
    return [min((j for j in range(i + 1) if x[j] == 1), default=default) for i in range(len(x))]


def mode(x):
    counts = [sum(1 for j in range(i + 1) if x[j] == x[i]) for i in range(len(x))]
    return [int(x[argmax(counts)[i]]) for i in range(len(x))]


def binary_mode(x):
    ones, zeros = num_prev(x, full(x, 1)), num_prev(x, full(x, 0))
    return [int(a > b) for a, b in zip(ones, zeros, strict=True)]


def induct_kqv(k, q, v, offset, default=0, null_val=-999):
    shifted = shift_right(k, offset, null_val)
    return index_select(v, firsts(shifted, q, null_val), default)


def induct(k, q, offset, default=0, null_val=-999):
    return induct_kqv(k, q, k, offset, default, null_val)


def induct_prev(k, q, offset, default=0, null_val=-999):
    return index_select(k, [j + offset for j in firsts(k, q, null_val)], default)


def operator(sign, x, y=None):
    """numpy's operators: integer arithmetic, except that `~` and `&` of booleans are logical."""
    if y is None:
        return [(not v) if isinstance(v, bool) else {"~": ~v, "-": -v, "abs": abs(v)}[sign] for v in x]
    return [_PAIRS[sign](a, b) for a, b in zip(x, y, strict=True)]


_PAIRS = {
    "+": lambda a, b: int(a) + int(b),
    "-": lambda a, b: int(a) - int(b),
    "%": lambda a, b: int(a) % int(b),
    "//": lambda a, b: int(a) // int(b),
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
