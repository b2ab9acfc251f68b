"""The signals, one file per family. Files here are discovered automatically: to add signals, add a file."""
