"""Episodes in Parquet files: what the learner saw, what it did, what came of it, and the market around it.

One row is one moment of one symbol in one episode: the market and the learner's account when it was about to decide, then what
it decided and what that brought. So whatever a row holds beside its decision was there before the action, and the reward came
after; nothing else looks ahead. An episode's last row shows how it ended and has no decision. (Steps are laid out alike in RLDS,
Ramos et al. 2021.)

Action, `filled`, position, resting orders, features and market fields are those of the row's symbol. Reward, turnover and the
other numbers of the account are those of the whole market, the same in the rows of all its symbols: add them up over the rows of
symbol 0.
"""

from __future__ import annotations

from torchgym.extras import needs

with needs("recording", "torchgym[data]"):
    import pyarrow  # noqa: F401 (asked for here, once for all files of the package)

from torchgym.recording.calendar import Calendar
from torchgym.recording.columns import KINDS, Column, check_pages, columns, describe, read_about, read_config, schema
from torchgym.recording.file import ROWS_PER_GROUP
from torchgym.recording.recorder import EpisodeRecorder, Recording, record

__all__ = [
    "KINDS",
    "ROWS_PER_GROUP",
    "Calendar",
    "Column",
    "EpisodeRecorder",
    "Recording",
    "check_pages",
    "columns",
    "describe",
    "read_about",
    "read_config",
    "record",
    "schema",
]
