"""What a run is: frozen, validated specifications of task, model and training. No torch here.

Each option of the lab is declared once, as a field below: command-line flags, grid-file keys and Python
arguments are all made from these classes. A `RunSpec` is one seed of one configuration, and its `run_id` is a
hash of its canonical JSON. Evaluations are not part of it: they are appended to a run later.
"""

from genlab.spec.model import LSTM_FIXED, ModelConfig
from genlab.spec.run import EvalRow, RunSpec
from genlab.spec.task import Split, TaskSpec
from genlab.spec.training import TrainConfig
from genlab.spec.values import Frozen, Scalar, build, canonical_json

__all__ = [
    "LSTM_FIXED",
    "EvalRow",
    "Frozen",
    "ModelConfig",
    "RunSpec",
    "Scalar",
    "Split",
    "TaskSpec",
    "TrainConfig",
    "build",
    "canonical_json",
]
