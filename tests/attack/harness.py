"""Calls of `lab` that can harm nobody: each in a child of its own, bounded, in a folder that is looked through after.

A child is forked from this process, which has the heavy imports already; a small fraction are real processes, since
only those end as a user's do. Nothing here trains or reads: a parent with running threads cannot be forked safely.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import math
import os
import pkgutil
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = ("traceback", "hang", "abort", "status", "outside", "unnoticed", "harmed")
"""What must not happen: a traceback; no end within the limit; an end by a signal or with status 134; a status other
than 0, 1 and 2, or an error without a word; a file outside the store that was not asked for; damage that is not
noticed; a store that is damaged afterwards, or that holds other numbers than an undisturbed one."""
Signal = tuple[float, int]
"""When a call is interrupted (seconds after it began), and by which signal."""
_MEMORY = 12 * 2**30
"""Bytes of address space of a child: what goes beyond must not take the machine down."""
_PATIENCE = 10.0
"""How many times longer than its processor time a call may take."""


@dataclass(frozen=True)
class Fault:
    """Something that must not happen, one of `KINDS`."""

    kind: str
    text: str


@dataclass(frozen=True)
class Ended:
    """How a call ended.

    Attributes:
        words: the command line, without `lab`.
        status: its exit status, negative for a signal; None if it was ended at the limit.
        out, err: what it printed.
        seconds: how long it took.
        interrupted: by which signal, if it had not ended before.
    """

    words: tuple[str, ...]
    status: int | None
    out: str
    err: str
    seconds: float
    interrupted: int | None = None

    def faults(self) -> list[Fault]:
        """What must not have happened in any call."""
        said = " | ".join(self.err.strip().splitlines()[-3:])
        about = f"{self.typed} -> {self.status}: {said[-400:]}"
        if self.status is None:
            return [Fault("hang", about)]
        if "Traceback (most recent call last)" in self.err + self.out:
            return [Fault("traceback", about)]
        if self.interrupted and self.status in (-self.interrupted, 128 + self.interrupted):
            return []
        if self.status < 0 or self.status == 134:
            return [Fault("abort", about)]
        if self.status not in (0, 1, 2) or (self.status and not (self.err or self.out).strip()):
            return [Fault("status", about)]
        return []

    @property
    def typed(self) -> str:
        """The command as one would type it."""
        return shlex.join(["lab", *self.words])


@dataclass
class Case:
    """One case of a campaign, as it goes.

    Attributes:
        rng: all that is drawn in this case; it depends on the campaign, the seed and the number of the case alone.
        root: a folder of its own, which is looked through for files that were not asked for.
    """

    rng: random.Random
    root: Path
    calls: list[Ended] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    disturbed: int = 0
    """How often something was killed, flipped or planted."""

    @property
    def here(self) -> Path:
        """The working directory of the calls: some levels down, so that `../..` is seen too."""
        return self.root / "some" / "where"

    @property
    def store(self) -> Path:
        """The store of the calls."""
        return self.here / "store"

    def call(self, *words: str, **how: Any) -> Ended:
        """Make a call and note what must not have happened; keywords as in `call`."""
        ended = call(words, self.root, self.here, **how)
        self.calls.append(ended)
        self.faults += ended.faults()
        return ended

    def fault(self, kind: str, text: str) -> None:
        """Note something that must not have happened."""
        self.faults.append(Fault(kind, text))


@contextlib.contextmanager
def case(name: str, seed: int, number: int, scratch: Path, template: Path | None) -> Iterator[Case]:
    """A case with a copy of the store `template` in a folder that is removed afterwards."""
    root = scratch / f"{name}-{number}"
    made = Case(random.Random(f"{name}/{seed}/{number}"), root)
    made.here.mkdir(parents=True)
    (root / "home").mkdir()
    (root / "tmp").mkdir()
    if template is not None:
        shutil.copytree(template, made.store, symlinks=True)
    try:
        yield made
    finally:
        for folder, below, files in os.walk(root):
            for part in (*below, *files):
                with contextlib.suppress(OSError):
                    os.chmod(Path(folder, part), 0o700, follow_symlinks=True)
        shutil.rmtree(root, ignore_errors=True)


def call(
    words: Sequence[str],
    root: Path,
    here: Path,
    limit: float = 60.0,
    alone: bool = False,
    locked: bool = False,
    after: Signal | None = None,
) -> Ended:
    """Run `lab` with these words.

    Args:
        root: where its home and temporary files are.
        here: its working directory; its store is `store` there.
        limit: processor seconds until it is ended; it may take ten times as long, since other work may be done here.
        alone: as a process of its own, not a child that shares the imports of this one.
        locked: without the rights of root to read everything, so that an unreadable file is one.
        after: interrupt it, if it has not ended by then.
    """
    environment = _environment(root, here)
    begun = time.monotonic()
    with (root / "out").open("wb") as out, (root / "err").open("wb") as err:
        if alone:
            line = [sys.executable, "-m", "genlab.start", *words]
            options = {"cwd": here, "env": environment, "stdin": subprocess.DEVNULL, "start_new_session": True}
            process = subprocess.Popen(line, stdout=out, stderr=err, **options)  # pyright: ignore
            pid = process.pid
        else:
            pid = os.fork()
            if pid == 0:
                _be_lab(words, here, environment, (out.fileno(), err.fileno()), locked)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 5))
        status = _wait(pid, _PATIENCE * limit, after)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # workers that were left behind
    said = [(root / name).read_text("utf-8", "replace") for name in ("out", "err")]
    return Ended(tuple(words), status, said[0], said[1], time.monotonic() - begun, after and after[1])


def _environment(root: Path, here: Path) -> dict[str, str]:
    own = {"HOME": root / "home", "TMPDIR": root / "tmp", "GENLAB_CACHE": root / "home" / "cache"}
    fixed = {"GENLAB_STORE": "store", "COLUMNS": "100", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_CHECKOUT)}
    return {**os.environ, **{name: str(path) for name, path in own.items()}, **fixed}


_CHECKOUT = Path(__file__).parents[2]


def _be_lab(
    words: Sequence[str], here: Path, environment: dict[str, str], pipes: tuple[int, int], locked: bool
) -> None:
    """Be the command `lab` in a child; does not return."""
    status: object = 70
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for mine, standard in zip((null, *pipes), (0, 1, 2), strict=True):
            os.dup2(mine, standard)
        sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in enumerate("rww"))  # noqa: SIM115
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(here)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if locked:
            give_up_reading_everything()
        sys.argv = ["lab", *words]
        from genlab.start import main

        main()
        status = 0
    except SystemExit as left:
        status = left.code
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(int(status) if isinstance(status, int) else bool(status))


def give_up_reading_everything() -> None:
    """Drop the capabilities by which root reads and writes files against their permissions (Linux)."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    data = (ctypes.c_uint32 * 6)()
    if libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    for place in (0, 1):  # effective and permitted
        data[place] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _wait(pid: int, limit: float, after: Signal | None) -> int | None:
    begun, pause = time.monotonic(), 0.002
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if after is not None and time.monotonic() - begun > after[0]:
            os.kill(pid, after[1])
            after = None
        if time.monotonic() - begun > limit:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    status = os.waitstatus_to_exitcode(ended[1])
    return None if status == -signal.SIGXCPU else status


def import_everything() -> None:
    """Import what commands import, once for all children; makes no threads."""
    import genlab

    for module in pkgutil.walk_packages(genlab.__path__, "genlab."):
        if not module.name.endswith((".lens", ".local_learning", ".ray_executor")):
            with contextlib.suppress(ImportError):  # optional dependencies
                importlib.import_module(module.name)
    for name in ("matplotlib.pyplot", "scipy.stats", "sklearn.ensemble", "sklearn.linear_model", "rich.console"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or the first collection in each child copies all of it


def files_of(root: Path) -> dict[Path, tuple[int, int]]:
    """All files below a folder, with what changes when they do; links are not followed."""
    found: dict[Path, tuple[int, int]] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                state = os.lstat(Path(folder, name))
                found[Path(folder, name)] = (state.st_mtime_ns, state.st_size)
    return found
