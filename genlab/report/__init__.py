"""Figures and tables, all from the store alone."""
