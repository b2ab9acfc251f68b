"""Toys that break what a task answers, judges, draws and scores."""

# ruff: noqa: RUF012 (the class fields of toys are written once and never changed)

import numpy as np
from toys import ZERO, Changed, HeldOut, Placed, Several, Toy, breaks

from genlab.spec import Split
from genlab.tasks import split_map


@breaks("agrees_with_solve", "was sampled with answer")
class SolvesBackwards(Toy):
    def solve(self, prompt):
        return super().solve(prompt)[::-1]


@breaks("agrees_with_solve", "was sampled with answer")
class WrongWhenPadded(Changed):
    def change(self, x, lengths):
        targets = x.targets.copy()
        short = lengths < max(lengths)
        targets[short, lengths[short] + 1] = ZERO
        return {"targets": targets, "tokens": np.hstack([x.tokens[:, :1], targets[:, :-1]])}


@breaks("agrees_with_solve", "`accepts` rejects")
class RefusesItsOwn(Several):
    def accepts(self, prompt, answer):
        return super().accepts(prompt, answer) and answer[0] != "4"


@breaks("agrees_with_solve", "the answers to other prompts")
class AcceptsAll(Several):
    def accepts(self, prompt, answer):
        return True


@breaks("judges_true_answers_correct", "is scored {'first': True}")
class JudgesAnotherScore(Toy):
    judges = {"last": "the last digit"}


@breaks("judges_true_answers_correct", "is scored {'first': False}")
class JudgesWrong(Toy):
    def judge(self, prompt, answer):
        return {"first": answer[:1] == ("0",)}


@breaks("judges_true_answers_correct", "ill-formed")
class JudgesGoodFormOnly(Toy):
    def judge(self, prompt, answer):
        return super().judge(prompt, answer) if answer else {}


@breaks("judges_true_answers_correct", "no rule gives")
class RulesWithoutTheTrueOne(Toy):
    def rules(self, prompt):
        return {"backwards": (*self.solve(prompt)[::-1], "0")}


@breaks("computes_factors_per_example", "depends on the batch")
class FactorOfTheBatch(Toy):
    def factors(self, examples):
        return {"rank": np.arange(len(examples))}


@breaks("computes_factors_per_example", "not one integer per example")
class FactorOfPositions(Toy):
    def factors(self, examples):
        return {"zeros": examples.tokens == ZERO}


@breaks("follows_token_shares", "split 'id', length 8: tokens do not follow token_shares")
class BiasedDigits(Toy):
    def digits(self, rng, split, lengths):
        return np.minimum(super().digits(rng, split, lengths), rng.integers(0, 20, (len(lengths), 1)))


@breaks("follows_token_shares", "split 'low', length 8: tokens do not follow token_shares")
class SplitIgnored(Toy):
    def digits(self, rng, split, lengths):
        return super().digits(rng, self.splits["id"], lengths)


@breaks("follows_token_shares", "not a distribution")
class SharesOfUnknownTokens(Toy):
    def token_shares(self, split, length):
        return {"7": 1.0}


@breaks("follows_token_shares", "not a distribution")
class SharesThatDoNotAddUp(Toy):
    def token_shares(self, split, length):
        return {**super().token_shares(split, length), ">": 0.5}


@breaks("mixes_lengths_without_bias", "length 4 has another distribution next to 8")
class BiasedBesideLonger(Toy):
    def digits(self, rng, split, lengths):
        digits = super().digits(rng, split, lengths)
        return np.where((lengths < max(lengths))[:, None], np.minimum(digits, 3), digits)


@breaks("states_chance_correctly", "chance 0.25 at length 1")
class WrongChance(Toy):
    def chance(self, length):
        return 4.0**-length


@breaks("states_chance_correctly", "chance 0.04 at length 2")
class WrongChanceOfSeveral(Several):
    def chance(self, length):
        return 5.0**-length


@breaks("separates_training_from_test", "; chance allows")
class OneFixedPool(Toy):
    def digits(self, rng, split, lengths):
        pool = np.random.default_rng(1).integers(0, split.shift["below"], (100, self.max_len))
        return pool[rng.integers(0, 100, len(lengths)), : max(lengths)]


@breaks("separates_training_from_test", "0 within them")
class BlindToTheGenerator(Toy):
    def chance(self, length):
        return 0.9  # so that only the comparison with coincidences within a batch can tell

    def draw(self, rng, split, lengths):
        return super().draw(np.random.default_rng(1), split, lengths)


@breaks("separates_training_from_test", "held-out split")
class HeldOutStandsInTraining(HeldOut):
    splits = split_map(*(Split(name=name, shift={"below": 5, "sign": 0}) for name in ("id", "plus")))


@breaks("takes_position_ids_from_the_prompt", "but `id_reach` is")
class IdsBeyondTheirReach(Placed):
    def id_reach(self, kind, length):
        return length


@breaks("takes_position_ids_from_the_prompt", "ids change with the answer")
class IdsOfTheAnswer(Placed):
    def position_ids(self, kind, examples, width):
        found = super().position_ids(kind, examples, width)
        found[:, : examples.tokens.shape[1]] *= examples.tokens != ZERO
        return found


@breaks("takes_position_ids_from_the_prompt", "not one id per position")
class FewIds(Placed):
    def position_ids(self, kind, examples, width):
        return super().position_ids(kind, examples, width - 1)
