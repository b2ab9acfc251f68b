"""Mechanisms whose presence is known because it was compiled in, and the signals that claim to detect them.

Each mechanism has programs that *have* it and programs that *lack* it, at least two of each, built in different ways:
with one construction a signal would only be shown to be sensitive to that construction. Programs of one `pool` get
about as many heads, since the largest value over heads grows with their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from genlab.errors import unknown

GAPS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Distances of attention scores in the models of a dose."""


@dataclass(frozen=True)
class Construction:
    """A program that is compiled for calibration.

    Attributes:
        program: its name.
        task, format: what it answers.
        max_len: the longest input, in the task's own unit.
    """

    program: str
    task: str
    format: str
    max_len: int


@dataclass(frozen=True)
class Mechanism:
    """A mechanism, and what should tell models that have it from models that lack it.

    Attributes:
        name, about: what it is.
        has, lacks: programs with and without it. Without `lacks` it is a dose: all have it, at several distances
            (gaps) of attention scores, and a signal should rise with the gap.
        signals: full names of values of signals (`signal` or `signal.part`), high where the mechanism is present.
        falling: the same, low where it is present.
        pool: name of the group of programs that get about as many heads.
        matched: what is the same in `has` and `lacks`.
        slow: whether its models are large, so that they are read under few conditions.
    """

    name: str
    about: str
    has: tuple[Construction, ...]
    lacks: tuple[Construction, ...]
    signals: tuple[str, ...]
    falling: tuple[str, ...] = ()
    pool: str = ""
    matched: str = "the same task, and the same answers"
    slow: bool = False

    @property
    def claims(self) -> dict[str, int]:
        """Full name of a value -> 1, or -1 if it is low where the mechanism is present."""
        return dict.fromkeys(self.signals, 1) | dict.fromkeys(self.falling, -1)

    @property
    def is_dose(self) -> bool:
        return not self.lacks


def _of(task: str, form: str, max_len: int, *programs: str) -> tuple[Construction, ...]:
    return tuple(Construction(program, task, form, max_len) for program in programs)


def _copy(*programs: str) -> tuple[Construction, ...]:
    return _of("copy", "unique", 12, *programs)


def _brackets(*programs: str) -> tuple[Construction, ...]:
    return _of("brackets", "plain", 20, *programs)


_MATCHING = ("copy_unique", "copy_by_recency")
_PLACING = ("copy_by_place", "copy_by_last_place")
_COUNTING = ("copy_repeats", "copy_by_count")
_EVEN = _of("even-pairs", "plain", 12, "even_pairs", "even_pairs_by_rank")
_MAIN = _of("question-formation", "plain", 12, "main_auxiliary_moves", "main_auxiliary_moves_by_count")
_FIRST = _of("question-formation", "plain", 12, "first_auxiliary_moves", "first_auxiliary_moves_by_count")

MECHANISMS: tuple[Mechanism, ...] = (
    Mechanism(
        "violations",
        "the end of a bracket string knows whether depth was ever below 0 (NESTED against EQUAL-COUNT)",
        _brackets("nested", "nested_by_lowest", "nested_at_brackets"),
        _brackets("equal_counts", "equal_counts_by_index"),
        (
            *("bracket_neg", "bracket_nonneg", "bracket_ambi", "bracket_sign"),
            *("linear_probe.violated.accuracy", "linear_probe.violated.selectivity"),
            *("rasp_select.3-has_seen", "rasp_selects_found"),
        ),
        pool="brackets",
        matched="the same inputs; answers differ where equal counts are not nested, which training strings have not",
    ),
    Mechanism(
        "depth",
        "the depth of brackets is in the residual stream",
        _brackets("nested_by_lowest", "nested", "equal_counts"),
        _brackets("first_symbol", "first_symbol_by_rank"),
        ("linear_probe.depth.accuracy", "linear_probe.depth.selectivity"),
        pool="brackets",
        matched="the same inputs, with another answer: whether the first bracket opens",
    ),
    Mechanism(
        "previous-token",
        "a head reads the token before, at every position",
        _copy(*_MATCHING),
        _copy(*_COUNTING, *_PLACING),
        ("previous_token", "previous_token_mul"),
        pool="copy",
    ),
    Mechanism(
        "induction",
        "after A B ... A, the token B is found by a match of A: previous token and match, or match and next place",
        _copy(*_MATCHING, *_PLACING),
        _copy(*_COUNTING),
        (
            *("induction_latest", "induction_prefix", "induction_mul", "induction_mul_no_first", "induction_scored"),
            *("random_induction_diagonal", "random_induction_prefix", "random_induction_mul"),
            *("random_induction_mul_no_first", "previous_token", "duplicate_token", "k_composition"),
            *("subspace_match", "subspace_percentile", "diagonal_score", "rasp_selects_found"),
        ),
        pool="copy",
    ),
    Mechanism(
        "prefix-matching",
        "a head attends to the token after an earlier occurrence of the query's token, by whatever computation",
        _copy(*_MATCHING),
        _of("reverse", "unique", 12, "reverse_unique", "reverse_by_count"),
        (
            *(
                "induction_latest",
                "induction_prefix",
                "induction_mul",
                "induction_mul_no_first",
            ),
            *("random_induction_diagonal", "random_induction_prefix", "random_induction_mul"),
            "random_induction_mul_no_first",
        ),
        pool="copy or reverse",
        matched="another task on distinct symbols: every program that copies them attends there, see induction",
    ),
    Mechanism(
        "duplicate-token",
        "a head finds the earlier occurrence of the same token",
        _copy(*_PLACING),
        _copy(*_MATCHING, *_COUNTING),
        ("duplicate_token", "duplicate_token_mul"),
        pool="copy",
    ),
    Mechanism(
        "k-composition",
        "a head's keys are what an earlier head wrote",
        _copy(*_MATCHING),
        _copy("copy_repeats", "copy_by_last_place"),
        ("k_composition", "subspace_match", "subspace_percentile", "diagonal_score"),
        pool="copy",
    ),
    Mechanism(
        "q-composition",
        "a head's queries are what an earlier head wrote",
        _copy(*_PLACING, "copy_by_next_place"),
        _copy("copy_unique", "copy_repeats"),
        ("q_composition",),
        pool="copy",
    ),
    Mechanism(
        "v-composition",
        "a head moves what an earlier head wrote",
        _of("reverse", "unique", 12, "reverse_unique", "reverse_by_shifted_place"),
        _of("reverse", "unique", 12, "reverse_repeats", "reverse_by_count"),
        ("v_composition",),
        pool="reverse",
    ),
    Mechanism(
        "copying",
        "the output of a head raises the logit of the token that it attends to",
        _copy("copy_unique", "copy_repeats", "copy_by_next_place"),
        _EVEN,
        ("copying_eigenvalues", "copying_logits"),
        pool="letters",
        matched="another task, whose answer is no token of the prompt (no program copies without copying)",
    ),
    Mechanism(
        "by-position",
        "a head finds keys by their index, whatever they hold",
        (*_copy("copy_repeats"), *_EVEN[:1]),
        (*_of("sort", "plain", 12, "sort"), *_of("majority", "plain", 12, "majority")),
        ("positional",),
        pool="letters",
        matched="other tasks, whose programs read no index",
    ),
    Mechanism(
        "end-of-prompt",
        "a head finds `>`",
        _copy("copy_repeats", "copy_resting_on_self"),
        _copy(*_MATCHING),
        ("end_token",),
        pool="copy",
    ),
    Mechanism(
        "attention-sink",
        "a head that has nothing to select attends to the first token",
        _copy(*_COUNTING),
        _copy("copy_resting_on_self", "copy_resting_on_largest"),
        ("start_token",),
        pool="copy",
    ),
    Mechanism(
        "counting",
        "a head attends uniformly to all selected keys, and the answer is read from their number",
        _of("even-pairs", "plain", 12, "even_pairs_by_changes", "even_pairs_by_rises"),
        _EVEN,
        ("attention_entropy", "effective_keys", "effective_keys_growth"),
        ("largest_weight", "largest_weight_growth"),
        pool="even-pairs",
    ),
    Mechanism(
        "same-hint",
        "a head finds the earlier occurrence of an index hint",
        _of("parity", "running", 8, "parity_running_by_place", "parity_running_by_last_place"),
        _of("parity", "running", 8, "parity_running", "parity_running_by_index"),
        ("same_hint",),
        pool="parity",
    ),
    Mechanism(
        "own-program",
        "the model computes the selects of the task's registered program",
        _copy(*_MATCHING),
        _copy(*_COUNTING, *_PLACING),
        ("rasp_select.1-shift_right", "rasp_select.2-equals", "rasp_selects_found"),
        pool="copy",
    ),
    Mechanism(
        "main-auxiliary",
        "where the answer begins, a head finds the auxiliary of the main clause",
        _MAIN,
        _FIRST,
        ("main_auxiliary",),
        pool="question-formation",
        slow=True,
        matched="the same inputs; answers differ where a relative clause stands before the main auxiliary",
    ),
    Mechanism(
        "first-auxiliary",
        "where the answer begins, a head finds the first auxiliary, also inside the subject",
        _FIRST,
        _MAIN,
        ("subject_auxiliary",),
        pool="question-formation",
        slow=True,
        matched="the same inputs; answers differ where a relative clause stands before the main auxiliary",
    ),
    Mechanism(
        "sharpness",
        "attention scores of selected keys lie above those of others by a known gap",
        (*_of("sort", "plain", 12, "sort"), *_copy("copy_repeats")),
        (),
        ("winning_margin", "score_spread", "score_spread_bound", "qk_spectral_norm", "largest_weight"),
        ("attention_entropy", "effective_keys"),
        pool="letters",
        matched="one program each, with gaps from 1 to 16",
    ),
)

_NO_MECHANISM = "names no mechanism"
UNCALIBRATED: Mapping[str, str] = MappingProxyType(
    {
        "ablations": "is itself an intervention: calibration uses it as the reference",
        "between_layers": f"{_NO_MECHANISM}: sensitivity to inputs",
        "confidence": f"{_NO_MECHANISM}: scores of outputs",
        "constant": f"{_NO_MECHANISM}: a distance of outputs",
        "fourier": "no RASP program computes with Fourier features; a compiled sum is a table",
        "interventions": f"{_NO_MECHANISM}: accuracy under changed attention",
        "learning_coefficient": f"{_NO_MECHANISM}: the geometry of the loss",
        "layer_smoothness": f"{_NO_MECHANISM}: geometry of the residual stream",
        "effective_rank": f"{_NO_MECHANISM}: geometry of the residual stream",
        "unrelated_probe": f"{_NO_MECHANISM}: what the residual stream holds beside the answer",
        "neuron_coverage": f"{_NO_MECHANISM}: activity of neurons",
        "training": f"{_NO_MECHANISM}: the course of training, which compiled models do not have",
        "largest_weight_extrapolated": "follows from largest_weight_growth, which is calibrated",
        "effective_keys_extrapolated": "follows from effective_keys_growth, which is calibrated",
        "score_spread_growth": "a gap that grows with length has no construction here",
        "score_spread_extrapolated": "a gap that grows with length has no construction here",
        "dispersion_bound": f"{_NO_MECHANISM}: an identity of softmax",
        "weight_norm": f"{_NO_MECHANISM}: the size of weights",
        "distance_from_init": f"{_NO_MECHANISM}: the size of weights",
        "ov_spectral_norm": f"{_NO_MECHANISM}: the size of weights",
        "ov_norm": f"{_NO_MECHANISM}: the size of weights",
    }
)
"""Signal or family without a mechanism -> why it is not calibrated."""


def find_mechanisms(names: Sequence[str] = ()) -> tuple[Mechanism, ...]:
    """The mechanisms with these names; all without names.

    Raises:
        UserError: there is no such mechanism; the message gives the nearest name.
    """
    known = {mechanism.name: mechanism for mechanism in MECHANISMS}
    for name in names:
        if name not in known:
            raise unknown("mechanism", name, known)
    return tuple(known[name] for name in dict.fromkeys(names)) or MECHANISMS
