"""Programs for the tasks of the lab, shortcuts that fit the training lengths, and failed attempts."""
