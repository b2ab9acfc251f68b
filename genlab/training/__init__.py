"""Training of stacks of runs: batches, optimizer, training loop, evaluation."""

from genlab.training.batches import Stream
from genlab.training.evaluate import LengthResult, eval_examples, evaluate
from genlab.training.loop import Stack, train_stack
from genlab.training.state import RunState, first_weights, fresh, stack_key

__all__ = [
    "LengthResult",
    "RunState",
    "Stack",
    "Stream",
    "eval_examples",
    "evaluate",
    "first_weights",
    "fresh",
    "stack_key",
    "train_stack",
]
