"""The batch stream, the optimiser, the stacked training loop, evaluation."""

from genlab.training.batches import Stream
from genlab.training.evaluate import LengthResult, eval_examples, evaluate
from genlab.training.loop import RunState, Stack, fresh, stack_key, train_stack

__all__ = [
    "LengthResult",
    "RunState",
    "Stack",
    "Stream",
    "eval_examples",
    "evaluate",
    "fresh",
    "stack_key",
    "train_stack",
]
