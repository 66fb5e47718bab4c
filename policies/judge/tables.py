"""Tables of judged requests: our own JSON lines, RouteLLM's evaluation responses, RouterBench.

`jsonl`: one object a line with `id`, `dataset`, `prompt`, `strong_score`, `weak_score` and perhaps `weak_response`,
`strong_usd`, `weak_usd`; other keys are ignored. `routellm` (routellm/evals of lm-sys/RouteLLM): CSV with `prompt` and
for each model a column MODEL of True and False and perhaps MODEL_response; the file's name tells the dataset,
mmlu_anatomy.csv is mmlu/anatomy. `routerbench` (Hu et al. 2024, arXiv:2403.12031): CSV or Parquet with `sample_id`,
`prompt`, `eval_name` and for each model MODEL, MODEL|model_response and MODEL|total_cost (USD).

Pickles, as which RouterBench is published, are refused: reading one runs whatever code its writer put there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from policies.judge.cells import Cells, CsvCells, ParquetCells
from policies.judge.jsonl import read_jsonl
from policies.judge.rows import Row, TableError, Wanted
from policies.judge.wide import ROUTELLM, ROUTERBENCH, Pair, read_wide

Format = Literal["auto", "jsonl", "routellm", "routerbench"]
AS_THE_SCORES_TELL = Pair()
SCORES = Wanted()
PARQUET = b"PAR1"
_HEAD_BYTES = 4096


def read_tables(
    paths: Sequence[Path], form: Format = "auto", *, pair: Pair = AS_THE_SCORES_TELL, wanted: Wanted = SCORES
) -> list[Row]:
    """The rows of all files, one after the other; of a folder, of the files in it. Raises as `read_table`."""
    files = [file for path in paths for file in _files(path)]
    return [row for file in files for row in read_table(file, form, pair=pair, wanted=wanted)]


def read_table(
    path: Path, form: Format = "auto", *, pair: Pair = AS_THE_SCORES_TELL, wanted: Wanted = SCORES
) -> list[Row]:
    """The rows of one file in their order.

    Raises TableError, which names the file and the line, also for a file that cannot be opened or has no row.
    """
    try:
        rows = list(_rows(path, form, pair, wanted))
    except OSError as error:
        raise TableError(f"{path}: {error.strerror or error}") from None
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    if not rows:
        raise TableError(f"{path}: no rows")
    return rows


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise TableError(f"{path}: no file in this folder")
    return files


def _rows(path: Path, form: Format, pair: Pair, wanted: Wanted) -> Iterator[Row]:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    _refuse(path, head)
    if form == "jsonl" or (form == "auto" and _is_json(head)):
        return read_jsonl(path, wanted)
    cells: Cells = ParquetCells(path) if head.startswith(PARQUET) else CsvCells(path)
    if form == "auto":
        form = "routerbench" if ROUTERBENCH.id in cells.columns else "routellm"
    layout = ROUTERBENCH if form == "routerbench" else ROUTELLM
    return read_wide(cells, layout, path.stem, pair, wanted)


def _refuse(path: Path, head: bytes) -> None:
    if head.startswith(b"\x80") or ".pkl" in path.suffixes or ".pickle" in path.suffixes:
        raise TableError(
            "a pickle is not read, for reading one runs the code in it; where you trust it, convert it once: "
            "pandas.read_pickle(…).to_parquet(…)"
        )
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        raise TableError("a compressed file is not read: unpack it first")
    if b"\0" in head and not head.startswith(PARQUET):
        raise TableError("neither Parquet nor text in UTF-8: save it as one of them")


def _is_json(head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[", b"")
