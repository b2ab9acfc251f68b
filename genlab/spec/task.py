"""What decides the examples of a task, and the ways of drawing them."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from genlab.errors import unknown
from genlab.spec.values import Frozen, Scalar

__all__ = ["Split", "TaskSpec"]


class TaskSpec(Frozen):
    """All that decides what a task's examples are. `genlab.tasks.spec` fills `params` in full."""

    name: str
    version: int = Field(ge=1, description="rises when samples, targets or scoring change")
    format: str = Field(description="how the task is written down, e.g. with a scratchpad")
    max_len: int = Field(ge=1, description="longest length the vocabulary and the context are made for")
    params: dict[str, Scalar] = Field(default_factory=dict[str, Scalar])


class Split(Frozen):
    """A named way of drawing examples, held as data. Without `lengths`, the caller says which."""

    name: str
    about: str = Field(default="", description="one line: what differs from `id`")
    shift: dict[str, Scalar] = Field(
        default_factory=dict[str, Scalar], description="parameters of the draw; empty for the plain one"
    )
    lengths: tuple[int, ...] = ()
    n: int = Field(default=0, ge=0, description="examples a length, for an evaluation set")
    seed: int = Field(default=0, ge=0, description="seed of an evaluation set")
    offsets: Literal["", "random", "zero", "batch"] = Field(
        default="", description="where the examples stand in the context; empty: as in training (ModelConfig.offsets)"
    )

    def at(self, lengths: tuple[int, ...], n: int, seed: int = 0, offsets: str = "") -> Split:
        """This split as an evaluation set: `n` examples at each of `lengths`, drawn from `seed`.

        Raises:
            UserError: `offsets` is none of the laws that there are.
        """
        laws = get_args(Split.model_fields["offsets"].annotation)
        if offsets not in laws:
            raise unknown("offsets", offsets, laws[1:])
        return self.model_copy(update={"lengths": tuple(lengths), "n": n, "seed": seed, "offsets": offsets})
