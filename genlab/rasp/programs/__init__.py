"""Programs for the tasks of the lab, wrong ones that fit training, and attempts that failed."""
