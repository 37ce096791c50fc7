"""Bad inputs, each with what a user must see of it.

They are made anew from numpy and Pillow, and run through `data`, `run` (up to the training),
`predict`, `publish`, `export` and the Python API by a worker process, so that a hang is a failure
and not a wait."""

import zlib
from dataclasses import dataclass
from typing import Callable


@dataclass(frozen=True)
class Case:
    "One bad input."

    name: str  # unique; what comes before the slash is its kind
    # check(desk) builds the input, makes the calls, and raises an `AssertionError` with what a user
    # saw
    check: Callable
    seconds: float = 20.0  # whoever takes longer hangs
    megabytes: float = 600.0  # of memory that the calls may need beyond what is held already

    @property
    def kind(self) -> str:
        return self.name.partition('/')[0]


def all_cases() -> dict:  # name -> `Case`
    "The whole corpus, in a fixed order."
    from . import files, folders, masks, pairs, runs, tables

    cases = [
        case for module in (files, folders, tables, masks, pairs, runs) for case in module.CASES
    ]
    return {case.name: case for case in cases}


def sample(
    cases,  # of `Case`
    per_kind: int,  # at most so many of each kind
    seed: int = 0,  # which ones
) -> list:
    """Some cases of every kind, chosen by the hash of their names: the same ones in every
    process and on every machine."""
    order = sorted(cases, key=lambda case: zlib.crc32(f'{seed}/{case.name}'.encode()))
    taken = {}
    for case in order:
        taken.setdefault(case.kind, []).append(case)
    return [case for kind in taken.values() for case in kind[:per_kind]]
