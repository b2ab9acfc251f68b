"""The signals, a family a file. Every file here is found by itself: to add signals is to add a file."""
