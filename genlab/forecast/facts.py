"""What RASP says of a task before any run of it: facts of a forecast table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from genlab.errors import UserError
from genlab.tasks import make

__all__ = ["rasp_facts"]

_NAMES = ("rasp_expected", "rasp_legal", "rasp_operations", "rasp_depth")


def rasp_facts(settings: pd.DataFrame) -> pd.DataFrame:
    """Facts of the task of each row of `settings` (columns task, format and positions).

    Columns: `rasp_expected` (does the rule of `genlab.rasp.prediction` expect generalisation in length with these
    positions), `rasp_legal` (is the program that decides strictly legal), `rasp_operations`, `rasp_depth`. Each is
    missing where it is not known: the rule does not judge the positions, the examples have one length, there is no
    program, or neither a program nor a reason against one is known.
    """
    keys = list(zip(settings["task"], settings["format"], settings["positions"], strict=True))
    known = {key: _facts(*key) for key in dict.fromkeys(keys)}
    return pd.DataFrame([known[key] for key in keys], index=settings.index, columns=list(_NAMES))


def _facts(task: str, format: str, positions: str) -> tuple[float, ...]:
    from genlab.rasp.prediction import predict_task

    try:
        said = predict_task(task, format, make)
    except UserError:
        return (np.nan,) * len(_NAMES)
    answer = said.expects(positions)
    expected = np.nan if answer is None else float(answer)
    if not said.program:
        return (expected, np.nan, np.nan, np.nan)
    return (expected, float(said.rules == "strict"), float(said.length), float(said.depth))
