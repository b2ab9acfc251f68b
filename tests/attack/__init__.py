"""A campaign of faults against the lab: kills, damaged stores, hostile calls, grid files, tables and plugins."""
