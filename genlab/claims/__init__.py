"""Claims: what papers found, as files with a rule that says whether it comes out here. No torch at import."""
