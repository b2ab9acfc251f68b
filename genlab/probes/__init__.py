"""Signals: numbers read from trained models on in-distribution inputs. Modules with torch are imported lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genlab.errors import NotApplicable
from genlab.probes.signal import Signal, all_signals, chosen, signal

if TYPE_CHECKING:
    from genlab.probes.inputs import Batch, ProbeInput, hooked_input, module_input, probe_batches, probe_input
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
    "module_input",
    "probe",
    "probe_batches",
    "probe_input",
    "read",
    "signal",
]

_IN_PROBING = ("Probing", "Reading", "probe", "read")
_IN_INPUTS = ("Batch", "ProbeInput", "hooked_input", "module_input", "probe_batches", "probe_input")


def __getattr__(name: str) -> Any:
    if name in _IN_PROBING:
        from genlab.probes import probing

        return getattr(probing, name)
    if name in _IN_INPUTS:
        from genlab.probes import inputs

        return getattr(inputs, name)
    raise AttributeError(f"module 'genlab.probes' has no attribute {name!r}")
