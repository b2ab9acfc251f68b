"""RASP-L: programs that say what a transformer can learn."""

from genlab.rasp.lang import *  # noqa: F403
