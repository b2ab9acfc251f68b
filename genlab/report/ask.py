"""Answers of a model to prompts: generated tokens with their probabilities, next to the true answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.text import Text

from genlab.errors import UserError
from genlab.models import Model, SetModel, StackedModel
from genlab.rasp.tokens import token_map
from genlab.runs.api import Run, load
from genlab.runs.store import Store
from genlab.tasks import Examples, Task
from genlab.tasks.examples import START
from genlab.tasks.mazes import Maze
from genlab.training.batches import positions_of, widths
from genlab.training.evaluate import eval_examples, greedy, greedy_answers

_DRAWN = 512
"""Examples drawn per split and length; with seed 0, those that `lab eval` draws by default."""
_ROWS = ("truth", "writes", "p", "runner-up", "p")


@dataclass(frozen=True)
class Token:
    """A token of an answer.

    Attributes:
        text, p: the generated token, and its probability.
        runner_up, runner_up_p: the second most likely token.
        truth: the true token at this position; None if the true answer has ended or is unknown.
        wrong: whether they differ; False if the true answer is unknown.
    """

    text: str
    p: float
    runner_up: str
    runner_up_p: float
    truth: str | None
    wrong: bool


@dataclass(frozen=True)
class Answer:
    """The answer of one run to one prompt, decoded greedily.

    Attributes:
        run_id: the run.
        prompt: its tokens as strings.
        truth: the remaining true answer, with `<end>`; None if the task has no answer to the prompt.
        tokens: the generated tokens, with `<end>` if it was generated.
        right: whether the task accepts the answer; None if the true answer is unknown.
        length: the length of the example, in the task's unit; None for a typed prompt, unless the model needs it.
        drawing: the maze with the generated path, for tasks with a drawing.
    """

    run_id: str
    prompt: tuple[str, ...]
    truth: tuple[str, ...] | None
    tokens: tuple[Token, ...]
    right: bool | None
    length: int | None
    drawing: str = ""

    @property
    def written(self) -> tuple[str, ...]:
        """The tokens as strings."""
        return tuple(token.text for token in self.tokens)

    def as_json(self) -> dict[str, Any]:
        """Return all fields except the drawing."""
        plain = {"run_id": self.run_id, "length": self.length, "prompt": " ".join(self.prompt)}
        truth = None if self.truth is None else " ".join(self.truth)
        plain |= {"truth": truth, "written": " ".join(self.written), "right": self.right}
        return plain | {"tokens": [asdict(token) for token in self.tokens]}


@dataclass(frozen=True)
class Answers:
    """Answers of one run.

    Attributes:
        answers: one per prompt.
        about: a one-line description of the request.
        figure: file of the drawing of the first answer.
    """

    answers: list[Answer]
    about: str
    figure: Path | None = None

    def as_json(self) -> list[dict[str, Any]]:
        """Return one row per prompt."""
        return [answer.as_json() for answer in self.answers]

    def print(self, console: Console) -> None:
        """Print each prompt with true answer, generated tokens and probabilities; `^` marks wrong tokens."""
        console.print(self.about, highlight=False, markup=False)
        for answer in self.answers:
            console.print()
            _print_answer(console, answer)
        if self.figure is not None:
            console.print(f"figure: {self.figure}", highlight=False, markup=False, soft_wrap=True)


def ask(
    run: Run | str,
    prompts: str | Sequence[str],
    *,
    store: Store | str | Path | None = None,
    offset: int = 0,
    figure: Path | None = None,
) -> Answers:
    """Return the answers of a run to given prompts.

    Args:
        run: a run, its id, or a unique prefix of it.
        prompts: one or several; space-separated tokens of the prompt, optionally with the beginning of an answer.
        store: the store of the run, if `run` is an id.
        offset: the position of the first token.
        figure: file for a drawing of the first maze with its true and generated path.

    Raises:
        UserError: no such run, an unknown token, or a prompt longer than the context.

    Example:
        >>> ask("3fa2", "7 3 5 >").answers[0].written  # doctest: +SKIP
        ('3', '5', '7', '<end>')
    """
    asked = AskedRun(run_of(run, store), offset, figure)
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts:
        raise UserError("no prompt was given")
    read = [asked.read(text) for text in texts]  # report a wrong prompt before any answer
    answers = [asked.answer(tokens, truth) for tokens, truth in read]
    return asked.shown(answers, asked.about(""))


def ask_split(
    run: Run | str,
    split: str = "id",
    length: int | None = None,
    n: int = 5,
    *,
    seed: int = 0,
    wrong_only: bool = False,
    store: Store | str | Path | None = None,
    offset: int = 0,
    figure: Path | None = None,
) -> Answers:
    """Return the answers of a run to examples of a split: the first of the evaluation set with this seed.

    Args:
        length: length of the examples (default: the longest training length that the split has).
        n: number of examples, at most 512.
        wrong_only: only examples with wrong answers, the first `n` among 512.

    Other arguments and errors are those of `ask`.
    """
    if not 1 <= n <= _DRAWN or seed < 0:
        raise UserError(f"-n {n} --seed {seed} is not allowed: -n is 1 to {_DRAWN}, --seed at least 0")
    asked = AskedRun(run_of(run, store), offset, figure)
    task, chosen = asked.task, asked.task.split(split)
    at = asked.usual_length(split) if length is None else length
    task.check_lengths(split, [at])
    examples = eval_examples(task, chosen.at((at,), _DRAWN, seed), at)
    rows, counts = list(range(n)), ""
    if wrong_only:
        wrong = asked.wrong(examples)
        rows, counts = wrong[:n], f"; wrong: {len(wrong)} of {_DRAWN}"
        counts += f", the first {len(rows)} shown" if len(rows) < len(wrong) else ""
    answers = [asked.answer(*asked.of_example(examples, row), at) for row in rows]
    return asked.shown(answers, asked.about(f", split {split}, length {at}{counts}"))


def run_of(run: Run | str, store: Store | str | Path | None) -> Run:
    return load(run, store) if isinstance(run, str) else run


@dataclass(frozen=True)
class Decoded:
    """A generated answer, as tensors.

    Attributes:
        whole: int[1, 1, pos], prompt and answer without the last generated token, which is never read.
        offsets, lengths: the other inputs of the model.
        begin: the position at which the answer begins.
        written: int[pos], the generated tokens.
        length: the length of the example, if the model needs it.
    """

    whole: torch.Tensor
    offsets: torch.Tensor
    lengths: torch.Tensor
    begin: int
    written: torch.Tensor
    length: int | None


class AskedRun:
    """A run to prompt, at an offset."""

    def __init__(self, run: Run, offset: int, figure: Path | None):
        """Raises `UserError` if the run cannot be prompted this way."""
        self.run, self.task, self.offset, self.figure = run, run.task, offset, figure
        if figure is not None and not isinstance(self.task, Maze):
            raise UserError(
                f"task {self.task.name!r} has no drawing to write to {str(figure)!r}; only mazes have one"
            )
        if offset < 0:
            raise UserError(f"--offset {offset} is not allowed: the first position is 0")
        if offset >= run.spec.model.n_ctx:
            raise UserError(
                f"--offset {offset} is not allowed: run {run.run_id} reads {run.spec.model.n_ctx} positions"
            )
        if offset and run.spec.model.random_positions:
            raise UserError(f"run {run.run_id} draws its positions at random, so --offset does not apply")
        model: Model = run.model
        if isinstance(model, SetModel):
            raise UserError(f"run {run.run_id} reads real values, not tokens; `lab eval` tests it")
        self.model: StackedModel = model

    def about(self, more: str) -> str:
        spec = self.run.spec
        return f"run {self.run.run_id}, {spec.task.name} ({spec.task.format}){more}; offset {self.offset}"

    def shown(self, answers: list[Answer], about: str) -> Answers:
        """The answers, with a drawing of the first if requested."""
        if self.figure is None or not answers:
            return Answers(answers, about)
        first = answers[0]
        assert isinstance(self.task, Maze)
        written = [token for token in first.written if token not in ("<end>", "<pad>")]
        self.task.draw_figure(self.figure, first.prompt, (first.truth or ())[:-1], first.length or 0, written)
        return Answers(answers, about, self.figure)

    def usual_length(self, split: str) -> int:
        """The longest training length of a split; its shortest length if it has no training length."""
        train = self.run.spec.train
        known = self.task.lengths_between(split, train.min_len, train.train_len)
        known = known[-1:] if len(known) else self.task.lengths_between(split, 0, self.task.max_len)[:1]
        if not len(known):
            raise UserError(f"split {split!r} has no example of at most {self.task.max_len} {self.task.length_unit}")
        return int(known[0])

    # -- Prompts and their true answers

    def read(self, text: str) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
        """Parse a prompt to tokens and the remaining true answer. Raises `UserError` for an unknown token."""
        tokens = tuple(text.split())
        if self.task.spec.start_token and tokens[:1] == (START,):
            tokens = tokens[1:]  # it is prepended to every prompt
        if not tokens:
            raise UserError("the prompt is empty; it needs at least one token")
        token_map(self.task.vocab.tokens).parse(tokens)  # raises for unknown tokens
        if self._ends_in_sep() and ">" not in tokens:
            raise UserError(f"prompt {text!r} has no `>`, after which answers of {self.task.name} begin")
        prompt = tokens[: tokens.index(">") + 1] if self._ends_in_sep() else tokens
        begun = tokens[len(prompt) :]
        try:
            truth = (*self.task.solve(prompt), "<end>")
        except Exception:  # what `solve` does with an invalid prompt is unspecified
            return tokens, None
        return tokens, truth[len(begun) :] if truth[: len(begun)] == begun else None

    def _ends_in_sep(self) -> bool:
        """Whether prompts of the task end in `>`, as all do except in tasks with their own syntax."""
        shortest = self.task.lengths_between("id", 0, self.task.max_len)[:1]
        example = self.task.sample(np.random.default_rng(0), "id", shortest)
        return self.task.read(example, 0)[0][-1] == ">"

    def of_example(self, examples: Examples, row: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Prompt and true answer, with `<end>`, of an example."""
        prompt, truth = self.task.read(examples, row)
        return prompt, (*truth, "<end>")

    def wrong(self, examples: Examples) -> list[int]:
        """The rows whose answers the task does not accept."""
        starts = self._positions(examples)
        written = greedy_answers(self.model, examples, starts, widths(self.task, examples.lengths))[0]
        decoded = [self.task.vocab.decode(ids) for ids in written]
        return [i for i, text in enumerate(decoded) if not self._accepts(*self.of_example(examples, i), text)]

    def _accepts(self, prompt: tuple[str, ...], truth: tuple[str, ...], answer: tuple[str, ...]) -> bool:
        """Whether an answer without `<end>` is right: the true one, or another that the task accepts."""
        several = type(self.task).accepts is not Task.accepts
        return answer == truth[:-1] or (several and self.task.accepts(prompt, answer))

    # -- Answers

    @torch.inference_mode()
    def decode(self, tokens: tuple[str, ...], length: int | None = None) -> Decoded:
        """Decode greedily after a prompt. Raises `UserError` if it is longer than the context."""
        cfg = self.run.spec.model
        known = self._length_of(len(tokens)) if length is None else length
        at = 0 if known is None else known
        ids = self.task.vocab.encode(tokens)[None]
        batch = self.task.lead(Examples(ids, np.zeros_like(ids), np.zeros(ids.shape, bool), np.array([at])))
        count = batch.tokens.shape[1]
        starts = self._positions(batch)
        room = starts.shape[1] if cfg.needs_ids else cfg.n_ctx - self.offset
        if count > room:
            where = f" from offset {self.offset} on" if self.offset else ""
            most = room - (count - len(tokens))
            raise UserError(f"the prompt has {len(tokens)} tokens; run {self.run.run_id} reads {most}{where}")
        device = self.model.flat.device
        prompt, offsets = torch.from_numpy(batch.tokens).to(device), torch.from_numpy(starts).to(device)[None]
        lengths = torch.tensor([[at]], device=device)
        written = greedy(self.model, prompt, room - count + 1, offsets, lengths=lengths)[0, 0]
        whole = torch.cat([prompt[0], written[:-1]])[None, None]
        return Decoded(whole, offsets, lengths, count, written, known)

    @torch.inference_mode()
    def answer(self, tokens: tuple[str, ...], truth: tuple[str, ...] | None, length: int | None = None) -> Answer:
        """Decode greedily, then compute all probabilities in one forward pass."""
        decoded = self.decode(tokens, length)
        logits = self.model(decoded.whole, decoded.offsets, lengths=decoded.lengths)
        chances = logits[0, 0, decoded.begin - 1 :].softmax(-1)
        best = chances.topk(2, dim=-1)
        second, second_p = best.indices[:, 1].tolist(), best.values[:, 1].tolist()
        own = self._tokens(decoded.written.tolist(), chances, second, second_p, truth)
        answer = tuple(token.text for token in own)
        ended = answer[-1] == "<end>"
        right = None if truth is None else ended and self._accepts(tokens, truth, answer[:-1])
        path = answer[:-1] if ended else answer
        drawing = "" if truth is None else self.task.drawing(tokens, path, int(decoded.lengths))
        return Answer(self.run.run_id, tokens, truth, own, right, decoded.length, drawing)

    def _tokens(
        self,
        written: list[int],
        chances: torch.Tensor,
        second: list[int],
        second_p: list[float],
        truth: tuple[str, ...] | None,
    ) -> tuple[Token, ...]:
        vocab, tokens = self.task.vocab, list[Token]()
        for i, token in enumerate(written):
            true = truth[i] if truth is not None and i < len(truth) else None
            wrong = truth is not None and true != vocab.tokens[token]
            p = float(chances[i, token])
            tokens.append(Token(vocab.tokens[token], p, vocab.tokens[second[i]], second_p[i], true, wrong))
        return tuple(tokens)

    def _positions(self, batch: Examples) -> np.ndarray:
        """The position of the first token of each example, or of all tokens where the model needs them."""
        cfg = self.run.spec.model
        if not cfg.needs_ids:
            return np.full(len(batch), self.offset, np.int64)
        ids = positions_of(self.task, batch, [0], cfg.model_copy(update={"offsets": "zero"}))
        moved = ids + (ids > 0) * self.offset  # id 0 marks tokens without a position
        if cfg.given_positions and moved.max() > (most := self.task.id_reach(cfg.given_positions, self.task.max_len)):
            raise UserError(f"--offset {self.offset} is not allowed: positions of this run end at {most}")
        return moved

    def _length_of(self, count: int) -> int | None:
        """The length of a typed prompt: the shortest length with prompts of that many tokens; None if not needed."""
        if not (self.run.spec.model.needs_ids or self.run.spec.model.loop_growth or isinstance(self.task, Maze)):
            return None
        known = self.task.lengths_between("id", 0, self.task.max_len)
        for length in known.tolist():
            example = self.task.sample(np.random.default_rng(0), "id", [length])
            if len(self.task.read(example, 0)[0]) >= count:
                return length
        return int(known[-1])


# -- On the terminal


def _print_answer(console: Console, answer: Answer) -> None:
    """Print the prompt, then one column per token, in blocks as wide as the terminal."""
    verdict = {True: "right", False: "wrong", None: "the task has no answer to this prompt"}[answer.right]
    console.print(Text.assemble((" ".join(answer.prompt), "bold"), "  ", (verdict, "dim")))
    columns = [_column(token, answer.truth is not None) for token in answer.tokens]
    for token in (answer.truth or ())[len(answer.tokens) :]:  # the answer ended early
        columns.append([token, "", "", "", "", "^"])
    start = 2 + max(map(len, _ROWS)) + 2
    block: list[list[str]] = []
    for i, column in enumerate(columns):
        block.append(column)
        used = start + sum(max(map(len, c)) + 2 for c in block)
        more = max(map(len, columns[i + 1])) if i + 1 < len(columns) else 0
        if i + 1 == len(columns) or used + more > console.width:
            _print_block(console, block, answer.truth is not None)
            block = []
    if answer.tokens and answer.tokens[-1].text != "<end>":
        console.print(f"  no <end> within the {len(answer.tokens)} tokens that fit into the context", style="dim")
    if answer.drawing:
        console.print(Text(answer.drawing))


def _column(token: Token, known: bool) -> list[str]:
    truth = (token.truth or "-") if known else ""
    chances = [f"{token.p:.3f}", token.runner_up, f"{token.runner_up_p:.3f}"]
    return [truth, token.text, *chances, "^" if token.wrong else ""]


def _print_block(console: Console, block: list[list[str]], known: bool) -> None:
    widths = [max(map(len, column)) for column in block]
    for row, name in enumerate((*_ROWS, "")):
        cells = [column[row].ljust(width) for column, width in zip(block, widths, strict=True)]
        if not any(cell.strip() for cell in cells) or (row == 0 and not known):
            continue
        style = {1: "bold", 5: "bold red"}.get(row, "dim" if row in (2, 3, 4) else "")
        line = f"  {name:<{max(map(len, _ROWS))}}  " + "  ".join(cells)
        console.print(Text(line.rstrip(), style=style))
