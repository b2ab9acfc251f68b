"""Where the command `lab` starts: Ctrl-C while its modules are imported ends it with one line, too."""

from __future__ import annotations

import sys


def main() -> None:
    """Import the command line and run it."""
    try:
        from genlab.cli import main as run
    except KeyboardInterrupt:
        print("lab: stopped", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
