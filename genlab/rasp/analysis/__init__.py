"""What can be said of a program from its graph: kinds, legality under three rule sets, complexity."""

from genlab.rasp.analysis.complexity import Complexity, complexity, largest
from genlab.rasp.analysis.domain import Domain, Scale, tokens
from genlab.rasp.analysis.interpret import Fault, Reading
from genlab.rasp.analysis.rules import RULE_SETS, Rule, Verdict, verdicts

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
