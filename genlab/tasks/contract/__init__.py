"""The clauses of a task's contract, each a small check; `genlab.tasks.check_task` runs them all."""
