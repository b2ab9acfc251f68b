"""Static analysis of a program's graph: legality under three rule sets, and complexity."""

from genlab.rasp.analysis.complexity import Complexity, complexity, largest
from genlab.rasp.analysis.rules import RULE_SETS, Rule, Verdict, verdicts
from genlab.rasp.lang.domain import Domain, Scale, tokens
from genlab.rasp.lang.interpret import Fault, Reading

__all__ = [
    "RULE_SETS",
    "Complexity",
    "Domain",
    "Fault",
    "Reading",
    "Rule",
    "Scale",
    "Verdict",
    "complexity",
    "largest",
    "tokens",
    "verdicts",
]
