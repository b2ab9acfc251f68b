"""Signals: numbers read from trained models on in-distribution inputs. Modules with torch are imported lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genlab.errors import NotApplicable
from genlab.probes.signal import Signal, all_signals, chosen, signal

if TYPE_CHECKING:
    from genlab.probes.inputs import Batch, ProbeInput, hooked_input, probe_batches, probe_input
    from genlab.probes.probing import Probing, Reading, probe, read

__all__ = [
    "Batch",
    "NotApplicable",
    "ProbeInput",
    "Probing",
    "Reading",
    "Signal",
    "all_signals",
    "chosen",
    "hooked_input",
    "probe",
    "probe_batches",
    "probe_input",
    "read",
    "signal",
]

_MODULES: dict[str, str] = dict.fromkeys(("Probing", "Reading", "probe", "read"), "probing")
_MODULES |= dict.fromkeys(("Batch", "ProbeInput", "hooked_input", "probe_batches", "probe_input"), "inputs")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"genlab.probes.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'genlab.probes' has no attribute {name!r}")
