"""The rows of a claim as files: `NAME.csv`, with what they were judged by, and whether each example was right."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from genlab.claims.claim import Claim
from genlab.claims.measuring import ROW
from genlab.errors import UserError


@dataclass(frozen=True)
class Rows:
    """Measured rows of a claim.

    Attributes:
        rule: SHA-256 of the rules when the rows were made; grid: of the grid.
        date: when; genlab: the version that measured them.
        table: `genlab.claims.measuring.measured_rows`.
    """

    rule: str
    grid: str
    date: str
    genlab: str
    table: pd.DataFrame

    @property
    def seconds(self) -> float:
        """Seconds of training by the clock, of all runs: more than processor seconds where other work ran."""
        return float(self.table.drop_duplicates("run_id")["seconds"].sum())


_HEAD = tuple(field.name for field in fields(Rows) if field.name != "table")


def csv_text(rows: Rows) -> str:
    """The rows as CSV, after one comment line per fact about them."""
    head = "".join(f"# {name}: {getattr(rows, name)}\n" for name in _HEAD)
    return head + rows.table.to_csv(index=False, lineterminator="\n")


def parse_csv(text: str, name: str, claim: Claim) -> Rows:
    """Parse the output of `csv_text`.

    Raises:
        UserError: facts or columns are missing.
    """
    lines = text.splitlines()
    facts = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# ") and ": " in line)
    body = "\n".join(line for line in lines if not line.startswith("# "))
    table = (
        pd.read_csv(
            io.StringIO(body),
            dtype={"run_id": str},
            keep_default_na=False,
            na_values={"value": [""], "length": [""], "seconds": [""]},
        )
        if body
        else pd.DataFrame()
    )
    wanted = [*ROW[:3], *claim.settings, *ROW[3:]]
    missing = [one for one in (*_HEAD, *wanted) if one not in facts and one not in table]
    if missing:
        raise UserError(f"{name} is not a table of claim {claim.name!r}: it lacks {', '.join(missing)}")
    return Rows(**{one: facts[one] for one in _HEAD}, table=table[wanted].astype({"length": "Int64"}))


def read_rows(path: Path, claim: Claim) -> Rows | None:
    """The rows of a CSV file, or None if there is none."""
    return parse_csv(path.read_text("utf-8"), path.name, claim) if path.is_file() else None


def write_bits(bits: pd.DataFrame, path: Path) -> None:
    """Write correctness bits (`genlab.claims.measuring.correct_bits`) as a compressed Parquet file."""
    pyarrow.parquet.write_table(pa.Table.from_pandas(bits, preserve_index=False), path, compression="zstd")
