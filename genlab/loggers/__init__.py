"""Loggers: what other tools show of runs. Every file here but `record.py` is one, named as `--logger` names it."""
