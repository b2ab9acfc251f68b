"""Toys that break what a task says of itself, how it uses randomness, and the form of its examples."""

# ruff: noqa: RUF012 (the class fields of toys are written once and never changed)

import random
from dataclasses import replace

import numpy as np
from toys import ZERO, Changed, Toy, breaks

from genlab.errors import UserError
from genlab.tasks import Vocab


@breaks("describes_itself", "empty: source")
class NoSource(Toy):
    source = ""


@breaks("describes_itself", "['5 6']")
class SpaceInAToken(Toy):
    def symbols(self):
        return (*super().symbols(), "5 6")


@breaks("describes_itself", "train_split 'train' is not a split")
class UnknownTrainSplit(Toy):
    train_split = "train"


@breaks("describes_itself", "no length up to max_len")
class NothingInDistribution(Toy):
    def min_len(self, split):
        return 100 if split.name == "id" else 1


@breaks("describes_itself", "'fancy', which is not a format")
class DefaultsOfAnotherFormat(Toy):
    defaults = {"fancy": {"steps": 10}}


@breaks("describes_itself", "['step']")
class MisspeltDefault(Toy):
    defaults = {"*": {"step": 10}}


@breaks("describes_itself", "not parameters of the task: ['modulo']")
class MisspeltParameter(Toy):
    defaults = {"*": {"params": {"modulo": 3}}}


@breaks("describes_itself", "`resolve` changes the params")
class UnresolvedParams(Toy):
    @classmethod
    def resolve(cls, format, max_len, params):
        return {"symbols": 5}


@breaks("describes_itself", "split 'low': length_weights are not valid weights")
class NegativeWeights(Toy):
    def length_weights(self, split, lengths):
        return lengths - (5 if split.name == "low" else 0)


@breaks("describes_itself", "'chance': 1.5")
class ImpossibleChance(Toy):
    def chance(self, length):
        return 1.5 if length == 8 else super().chance(length)


@breaks("describes_itself", "'guess': -1")
class ImpossibleBaseline(Toy):
    def baseline(self, length):
        return {"guess": 1 - length}


@breaks("is_reproducible", "different batches")
class OwnGenerator(Toy):
    def digits(self, rng, split, lengths):
        return super().digits(np.random.default_rng(), split, lengths)


@breaks("is_reproducible", "different batches")
class SeededByItsNumber(Toy):
    made = 0

    def __init__(self, spec):
        super().__init__(spec)
        SeededByItsNumber.made += 1
        self.number = self.made

    def digits(self, rng, split, lengths):
        return (super().digits(rng, split, lengths) + self.number) % split.shift["below"]


@breaks("preserves_global_random_state", "`numpy.random`")
class NumpyGlobal(Toy):
    def digits(self, rng, split, lengths):
        return np.random.randint(0, split.shift["below"], (len(lengths), max(lengths)))  # noqa: NPY002


@breaks("preserves_global_random_state", "`random`")
class SeedsGlobal(Toy):
    def draw(self, rng, split, lengths):
        random.seed(int(rng.integers(1000)))
        return super().draw(rng, split, lengths)


@breaks("writes_valid_sequences", "`values` are not d_values (3) numbers")
class ValuesOfAnotherWidth(Toy):
    d_values = 3

    def draw(self, rng, split, lengths):
        x = super().draw(rng, split, lengths)
        return replace(x, values=np.zeros((*x.tokens.shape, 2), np.float32))


@breaks("writes_valid_sequences", "`values` are not d_values (0) numbers")
class ValuesUntold(Toy):
    def draw(self, rng, split, lengths):
        x = super().draw(rng, split, lengths)
        return replace(x, values=np.zeros((*x.tokens.shape, 2), np.float32))


@breaks("writes_valid_sequences", "do not have one shape")
class RaggedShapes(Changed):
    def change(self, x, lengths):
        return {"scored": x.scored[:, 1:]}


@breaks("writes_valid_sequences", "ids outside")
class UnknownIds(Changed):
    def change(self, x, lengths):
        return {"tokens": np.where(x.tokens == ZERO + 6, 99, x.tokens)}


@breaks("writes_valid_sequences", "not the next tokens")
class TargetsAreTokens(Changed):
    def change(self, x, lengths):
        return {"targets": x.tokens}


@breaks("writes_valid_sequences", "padding before")
class PadsOnTheLeft(Changed):
    def change(self, x, lengths):
        shift = (x.tokens == Vocab.pad).sum(axis=1)
        columns = (np.arange(x.tokens.shape[1]) - shift[:, None]) % x.tokens.shape[1]
        names = ("tokens", "targets", "scored")
        return {name: np.take_along_axis(getattr(x, name), columns, axis=1) for name in names}


@breaks("writes_valid_sequences", "differ from the requested ones")
class OtherLengths(Changed):
    def change(self, x, lengths):
        return {"lengths": np.minimum(lengths, 5)}


@breaks("scores_the_answer", "not one contiguous block")
class PromptScored(Changed):
    def change(self, x, lengths):
        scored = x.scored.copy()
        scored[:, 0] = True
        return {"scored": scored}


@breaks("scores_the_answer", "not one contiguous block")
class OneRowUnscored(Changed):
    def change(self, x, lengths):
        return {"scored": x.scored & (np.arange(len(lengths)) > 0)[:, None]}


@breaks("scores_the_answer", "must be the end token")
class EndUnscored(Changed):
    def change(self, x, lengths):
        return {"scored": x.scored & (x.targets != Vocab.end)}


@breaks("scores_the_answer", "padding is scored")
class PadsScored(Changed):
    def change(self, x, lengths):
        return {"scored": x.scored | (x.targets == Vocab.pad)}


@breaks("scores_the_answer", "is not trained")
class ScoredButUntrained(Changed):
    def change(self, x, lengths):
        return {"trained": x.scored & (x.targets != Vocab.end)}


@breaks("fits_its_width", "but width is")
class TooNarrow(Toy):
    def width(self, length):
        return 2 * length + 2


@breaks("fits_its_width", "no example reaches `width`")
class TooWide(Toy):
    def width(self, length):
        return 2 * length + 4


@breaks("fits_its_width", "more than n_ctx 4")
class WidestInTheMiddle(Toy):
    def width(self, length):
        return super().width(length) if length < self.max_len else 5


@breaks("grows_with_length", "no longer than those of 6")
class SilentlyShortened(Toy):
    def draw(self, rng, split, lengths):
        return replace(super().draw(rng, split, np.minimum(lengths, 6)), lengths=lengths)


@breaks("refuses_invalid_requests", "length 9 on split 'low' is not refused")
class TakesEveryLength(Toy):
    def check_lengths(self, split, lengths):
        pass


@breaks("refuses_invalid_requests", "raises ValueError")
class RaisesValueError(Toy):
    def check_lengths(self, split, lengths):
        if not 0 < max(lengths) <= self.max_len:
            raise ValueError("length")


@breaks("refuses_invalid_requests", "an unknown split gives an error of more")
class RefusesInTwoLines(Toy):
    def split(self, split):
        if split == "no-such-split":
            raise UserError("no\nsplit")
        return super().split(split)


@breaks("refuses_invalid_requests", "an unknown split is not")
class TakesEverySplit(Toy):
    def split(self, split):
        return self.splits.get(split, self.splits["id"]) if isinstance(split, str) else split


@breaks("refuses_invalid_requests", "an unknown format is not")
class TakesEveryFormat(Toy):
    def __init__(self, spec):
        super().__init__(spec.model_copy(update={"format": "plain"}))


@breaks("refuses_invalid_requests", "an unknown parameter is not")
class TakesEveryParameter(Toy):
    def __init__(self, spec):
        super().__init__(spec.model_copy(update={"params": {}}))


@breaks("takes_a_start_token", "the examples are not those without a start token, behind one")
class DrawsAnyToken(Toy):
    """Draws from the whole vocabulary, to which a start token adds one."""

    def draw(self, rng, split, lengths):
        drawn = super().draw(rng, split, lengths)
        tokens = np.where(
            drawn.tokens >= Vocab.first, rng.integers(Vocab.first, len(self.vocab), drawn.tokens.shape), 0
        )
        return replace(drawn, tokens=np.where(tokens, tokens, drawn.tokens))
