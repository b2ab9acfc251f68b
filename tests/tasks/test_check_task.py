"""Each clause of the contract can fail: sound toy tasks pass, and each way to break them is caught by its clause."""

# ruff: noqa: RUF012 (the class fields of toys are written once and never changed)

import random
from dataclasses import replace

import numpy as np
import pytest

from genlab.errors import UserError
from genlab.spec import Split, TaskSpec
from genlab.tasks import ContractError, Examples, Part, Task, Vocab, assemble, check_task, split_map
from genlab.tasks.check import CLAUSES

ZERO = Vocab.first


class Toy(Task):
    """Sound: copy digits from 0 to 4, after a `+` or a `-` that says nothing."""

    name, family, asks, source, length_unit = "toy", "toys", "write the digits again", "this test", "digits"
    formats = {"plain": "sign, digits > digits"}
    splits = split_map(Split(name="id", shift={"below": 5}), Split(name="low", shift={"below": 2}))
    judges = {"first": "the first digit"}

    def symbols(self):
        return ("0", "1", "2", "3", "4", "+", "-")

    def width(self, length):
        return 2 * length + 3

    def digits(self, rng, split, lengths):
        return rng.integers(0, split.shift["below"], (len(lengths), max(lengths)))

    def draw(self, rng, split, lengths):
        sign = Part(ZERO + 5 + rng.integers(0, 2, (len(lengths), 1)))
        digits = ZERO + self.digits(rng, split, lengths)
        keep = np.arange(digits.shape[1]) < lengths[:, None]
        parts = [sign, Part(digits, keep=keep), Part(Vocab.sep), Part(digits, True, keep), Part(Vocab.end, True)]
        return assemble(parts, lengths)

    def solve(self, prompt):
        return tuple(prompt[1 : prompt.index(">")])

    def chance(self, length):
        return 5.0**-length

    def judge(self, prompt, answer):
        return {"first": tuple(answer[:1]) == tuple(prompt[1:2])}

    def factors(self, examples):
        return {"zeros": (examples.tokens == ZERO).sum(axis=1)}

    def token_shares(self, split, length):
        below = split.shift["below"]
        return (
            {str(i): length / below / (length + 2) for i in range(below)}
            | dict.fromkeys("+-", 0.5 / (length + 2))
            | {">": 1 / (length + 2)}
        )


class Several(Toy):
    """Sound: the digits in any order will do."""

    def accepts(self, prompt, answer):
        return sorted(answer) == sorted(self.solve(prompt))

    def solve(self, prompt):
        return super().solve(prompt)[::-1]

    def chance(self, length):
        return {1: 1 / 5, 2: 9 / 125, 3: 109 / 3125}.get(length, 0.0)


class HeldOut(Toy):
    """Sound: training has the sign `+`, and `id` the sign `-`."""

    splits = split_map(
        Split(name="id", shift={"below": 5, "sign": 1}), Split(name="plus", shift={"below": 5, "sign": 0})
    )
    train_split = "plus"

    def draw(self, rng, split, lengths):
        x = super().draw(rng, split, lengths)
        x.tokens[:, 0] = ZERO + 5 + split.shift["sign"]
        return x

    def token_shares(self, split, length):
        return {}


class Placed(Toy):
    """Sound: a digit and its copy have one id, the sign has none."""

    id_kinds = ("coupled",)

    def position_ids(self, kind, examples, width):
        sep = np.argmax(examples.tokens == Vocab.sep, axis=1)[:, None]
        column = np.arange(width)
        return np.where(column <= sep, column, (column - sep).clip(max=sep))

    def id_reach(self, kind, length):
        return length + 1


SOUND = [Toy, Several, HeldOut, Placed]
BROKEN: list[tuple[str, str, type[Task]]] = []


def breaks(clause, message):
    def add(cls):
        BROKEN.append((clause, message, cls))
        return cls

    return add


@breaks("describes_itself", "empty: source")
class NoSource(Toy):
    source = ""


@breaks("describes_itself", "['5 6']")
class SpaceInAToken(Toy):
    def symbols(self):
        return (*super().symbols(), "5 6")


@breaks("describes_itself", "train_split 'train' is no split")
class UnknownTrainSplit(Toy):
    train_split = "train"


@breaks("describes_itself", "no length up to max_len")
class NothingInDistribution(Toy):
    def min_len(self, split):
        return 100 if split.name == "id" else 1


@breaks("describes_itself", "'fancy', which is no format")
class DefaultsOfAnotherFormat(Toy):
    defaults = {"fancy": {"steps": 10}}


@breaks("describes_itself", "['step']")
class MisspeltDefault(Toy):
    defaults = {"*": {"step": 10}}


@breaks("describes_itself", "`resolve` makes other params")
class UnresolvedParams(Toy):
    @classmethod
    def resolve(cls, format, max_len, params):
        return {"symbols": 5}


@breaks("describes_itself", "split 'low': length_weights are no weights")
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


@breaks("depends_on_the_generator_alone", "different batches")
class OwnGenerator(Toy):
    def digits(self, rng, split, lengths):
        return super().digits(np.random.default_rng(), split, lengths)


@breaks("depends_on_the_generator_alone", "different batches")
class SeededByItsNumber(Toy):
    made = 0

    def __init__(self, spec):
        super().__init__(spec)
        SeededByItsNumber.made += 1
        self.number = self.made

    def digits(self, rng, split, lengths):
        return (super().digits(rng, split, lengths) + self.number) % split.shift["below"]


@breaks("leaves_global_randomness_alone", "`numpy.random`")
class NumpyGlobal(Toy):
    def digits(self, rng, split, lengths):
        return np.random.randint(0, split.shift["below"], (len(lengths), max(lengths)))  # noqa: NPY002


@breaks("leaves_global_randomness_alone", "`random`")
class SeedsGlobal(Toy):
    def draw(self, rng, split, lengths):
        random.seed(int(rng.integers(1000)))
        return super().draw(rng, split, lengths)


class Changed(Toy):
    """Examples changed after they are drawn."""

    def draw(self, rng, split, lengths):
        return replace(x := super().draw(rng, split, lengths), **self.change(x, lengths))

    def change(self, x: Examples, lengths) -> dict:
        raise NotImplementedError


@breaks("writes_sequences", "`values` are not d_values (3) numbers")
class ValuesOfAnotherWidth(Toy):
    d_values = 3

    def draw(self, rng, split, lengths):
        x = super().draw(rng, split, lengths)
        return replace(x, values=np.zeros((*x.tokens.shape, 2), np.float32))


@breaks("writes_sequences", "`values` are not d_values (0) numbers")
class ValuesUntold(Toy):
    def draw(self, rng, split, lengths):
        x = super().draw(rng, split, lengths)
        return replace(x, values=np.zeros((*x.tokens.shape, 2), np.float32))


@breaks("writes_sequences", "not of one shape")
class RaggedShapes(Changed):
    def change(self, x, lengths):
        return {"scored": x.scored[:, 1:]}


@breaks("writes_sequences", "ids outside")
class UnknownIds(Changed):
    def change(self, x, lengths):
        return {"tokens": np.where(x.tokens == ZERO + 6, 99, x.tokens)}


@breaks("writes_sequences", "not the next tokens")
class TargetsAreTokens(Changed):
    def change(self, x, lengths):
        return {"targets": x.tokens}


@breaks("writes_sequences", "a pad stands before")
class PadsOnTheLeft(Changed):
    def change(self, x, lengths):
        shift = (x.tokens == Vocab.pad).sum(axis=1)
        columns = (np.arange(x.tokens.shape[1]) - shift[:, None]) % x.tokens.shape[1]
        names = ("tokens", "targets", "scored")
        return {name: np.take_along_axis(getattr(x, name), columns, axis=1) for name in names}


@breaks("writes_sequences", "not those asked for")
class OtherLengths(Changed):
    def change(self, x, lengths):
        return {"lengths": np.minimum(lengths, 5)}


@breaks("scores_the_answer", "not one block")
class PromptScored(Changed):
    def change(self, x, lengths):
        scored = x.scored.copy()
        scored[:, 0] = True
        return {"scored": scored}


@breaks("scores_the_answer", "not one block")
class OneRowUnscored(Changed):
    def change(self, x, lengths):
        return {"scored": x.scored & (np.arange(len(lengths)) > 0)[:, None]}


@breaks("scores_the_answer", "has to be the end token")
class EndUnscored(Changed):
    def change(self, x, lengths):
        return {"scored": x.scored & (x.targets != Vocab.end)}


@breaks("scores_the_answer", "a pad is scored")
class PadsScored(Changed):
    def change(self, x, lengths):
        return {"scored": x.scored | (x.targets == Vocab.pad)}


@breaks("scores_the_answer", "is not trained")
class ScoredButUntrained(Changed):
    def change(self, x, lengths):
        return {"trained": x.scored & (x.targets != Vocab.end)}


@breaks("fits_its_width", "where width is")
class TooNarrow(Toy):
    def width(self, length):
        return 2 * length + 2


@breaks("fits_its_width", "as wide as")
class TooWide(Toy):
    def width(self, length):
        return 2 * length + 4


@breaks("fits_its_width", "more than n_ctx 4")
class WidestInTheMiddle(Toy):
    def width(self, length):
        return super().width(length) if length < self.max_len else 5


@breaks("makes_longer_examples_at_longer_lengths", "no longer than those of 6")
class SilentlyShortened(Toy):
    def draw(self, rng, split, lengths):
        return replace(super().draw(rng, split, np.minimum(lengths, 6)), lengths=lengths)


@breaks("refuses_what_it_cannot_make", "length 9 on split 'low' is not refused")
class TakesEveryLength(Toy):
    def check_lengths(self, split, lengths):
        pass


@breaks("refuses_what_it_cannot_make", "raises ValueError")
class RaisesValueError(Toy):
    def check_lengths(self, split, lengths):
        if not 0 < max(lengths) <= self.max_len:
            raise ValueError("length")


@breaks("refuses_what_it_cannot_make", "an unknown split is refused in more")
class RefusesInTwoLines(Toy):
    def split(self, split):
        if split == "no-such-split":
            raise UserError("no\nsplit")
        return super().split(split)


@breaks("refuses_what_it_cannot_make", "an unknown split is not")
class TakesEverySplit(Toy):
    def split(self, split):
        return self.splits.get(split, self.splits["id"]) if isinstance(split, str) else split


@breaks("refuses_what_it_cannot_make", "an unknown format is not")
class TakesEveryFormat(Toy):
    def __init__(self, spec):
        super().__init__(spec.model_copy(update={"format": "plain"}))


@breaks("refuses_what_it_cannot_make", "an unknown parameter is not")
class TakesEveryParameter(Toy):
    def __init__(self, spec):
        super().__init__(spec.model_copy(update={"params": {}}))


@breaks("answers_as_solved", "was drawn with")
class SolvesBackwards(Toy):
    def solve(self, prompt):
        return super().solve(prompt)[::-1]


@breaks("answers_as_solved", "was drawn with")
class WrongWhenPadded(Changed):
    def change(self, x, lengths):
        targets = x.targets.copy()
        short = lengths < max(lengths)
        targets[short, lengths[short] + 1] = ZERO
        return {"targets": targets, "tokens": np.hstack([x.tokens[:, :1], targets[:, :-1]])}


@breaks("answers_as_solved", "`accepts` refuses")
class RefusesItsOwn(Several):
    def accepts(self, prompt, answer):
        return super().accepts(prompt, answer) and answer[0] != "4"


@breaks("answers_as_solved", "all other prompts")
class AcceptsAll(Several):
    def accepts(self, prompt, answer):
        return True


@breaks("judges_true_answers_right", "is judged {'first': True}")
class JudgesAnotherScore(Toy):
    judges = {"last": "the last digit"}


@breaks("judges_true_answers_right", "is judged {'first': False}")
class JudgesWrong(Toy):
    def judge(self, prompt, answer):
        return {"first": answer[:1] == ("0",)}


@breaks("judges_true_answers_right", "ill-formed")
class JudgesGoodFormOnly(Toy):
    def judge(self, prompt, answer):
        return super().judge(prompt, answer) if answer else {}


@breaks("judges_true_answers_right", "no rule gives")
class RulesWithoutTheTrueOne(Toy):
    def rules(self, prompt):
        return {"backwards": (*self.solve(prompt)[::-1], "0")}


@breaks("factors_example_by_example", "depends on the batch")
class FactorOfTheBatch(Toy):
    def factors(self, examples):
        return {"rank": np.arange(len(examples))}


@breaks("factors_example_by_example", "not one integer")
class FactorOfPositions(Toy):
    def factors(self, examples):
        return {"zeros": examples.tokens == ZERO}


@breaks("draws_tokens_as_it_says", "split 'id', length 8: tokens are not drawn")
class BiasedDigits(Toy):
    def digits(self, rng, split, lengths):
        return np.minimum(super().digits(rng, split, lengths), rng.integers(0, 20, (len(lengths), 1)))


@breaks("draws_tokens_as_it_says", "split 'low', length 8: tokens are not drawn")
class SplitIgnored(Toy):
    def digits(self, rng, split, lengths):
        return super().digits(rng, self.splits["id"], lengths)


@breaks("draws_tokens_as_it_says", "no distribution")
class SharesOfUnknownTokens(Toy):
    def token_shares(self, split, length):
        return {"7": 1.0}


@breaks("draws_tokens_as_it_says", "no distribution")
class SharesThatDoNotAddUp(Toy):
    def token_shares(self, split, length):
        return {**super().token_shares(split, length), ">": 0.5}


@breaks("mixes_lengths_without_bias", "length 4 is drawn otherwise beside length 8")
class BiasedBesideLonger(Toy):
    def digits(self, rng, split, lengths):
        digits = super().digits(rng, split, lengths)
        return np.where((lengths < max(lengths))[:, None], np.minimum(digits, 3), digits)


@breaks("knows_its_chance", "chance 0.25 at length 1")
class WrongChance(Toy):
    def chance(self, length):
        return 4.0**-length


@breaks("knows_its_chance", "chance 0.04 at length 2")
class WrongChanceOfSeveral(Several):
    def chance(self, length):
        return 5.0**-length


@breaks("keeps_test_from_training", "where chance allows")
class OneFixedPool(Toy):
    def digits(self, rng, split, lengths):
        pool = np.random.default_rng(1).integers(0, split.shift["below"], (100, self.max_len))
        return pool[rng.integers(0, 100, len(lengths)), : max(lengths)]


@breaks("keeps_test_from_training", "0 within them")
class BlindToTheGenerator(Toy):
    def chance(self, length):
        return 0.9  # so that only the comparison with coincidences within a batch can tell

    def draw(self, rng, split, lengths):
        return super().draw(np.random.default_rng(1), split, lengths)


@breaks("keeps_test_from_training", "held-out split")
class HeldOutStandsInTraining(HeldOut):
    splits = split_map(*(Split(name=name, shift={"below": 5, "sign": 0}) for name in ("id", "plus")))


@breaks("places_tokens_by_the_prompt_alone", "where `id_reach` is")
class IdsBeyondTheirReach(Placed):
    def id_reach(self, kind, length):
        return length


@breaks("places_tokens_by_the_prompt_alone", "they change with the answer")
class IdsOfTheAnswer(Placed):
    def position_ids(self, kind, examples, width):
        found = super().position_ids(kind, examples, width)
        found[:, : examples.tokens.shape[1]] *= examples.tokens != ZERO
        return found


@breaks("places_tokens_by_the_prompt_alone", "not one for each position")
class FewIds(Placed):
    def position_ids(self, kind, examples, width):
        return super().position_ids(kind, examples, width - 1)


def make_toy(cls: type[Task]) -> Task:
    return cls(TaskSpec(name="toy", version=1, format="plain", max_len=8))


@pytest.mark.parametrize("toy", SOUND)
def test_sound_tasks_pass(toy):
    check_task(make_toy(toy))


@pytest.mark.parametrize(("clause", "message", "toy"), BROKEN, ids=[toy.__name__ for _, _, toy in BROKEN])
def test_each_break_is_caught_by_its_clause(clause, message, toy):
    by_name = {check.__name__: check for check in CLAUSES}
    assert [violation for violation in by_name[clause](make_toy(toy)) if message in violation]


def test_every_clause_is_broken_once():
    assert {clause for clause, _, _ in BROKEN} == {clause.__name__ for clause in CLAUSES}


def test_all_violations_come_in_one_error():
    class Hopeless(SolvesBackwards):
        source = ""

        def chance(self, length):
            raise ZeroDivisionError("no chance")

    with pytest.raises(ContractError) as caught:
        check_task(make_toy(Hopeless))
    clauses = [line.split(": ")[0] for line in caught.value.violations]
    assert {"describes_itself", "answers_as_solved", "knows_its_chance"} <= set(clauses)
    assert "knows_its_chance: raised ZeroDivisionError: no chance" in caught.value.violations
    assert all(line in str(caught.value) for line in caught.value.violations)
