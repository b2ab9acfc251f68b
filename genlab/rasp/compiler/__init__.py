"""Compile RASP-L programs to weights of genlab's own transformer."""
