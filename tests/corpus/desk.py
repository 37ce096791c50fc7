"""Where a case makes its calls, commands and functions, and the judgements that many cases share."""

import contextlib
import io
import os
import re
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest import mock


@dataclass
class Seen:
    "What a user sees of one call."

    call: str  # what was called, for messages
    code: int = (
        0  # exit code of a command; of a function 0, or 2 for an error that speaks to its user
    )
    out: str = ''  # standard output
    err: str = ''  # error stream, warnings included; of a function the error's text
    value: object = None  # what a function returned
    crash: str = ''  # the last lines of a traceback, where there was one

    @property
    def text(self) -> str:
        return f'{self.out}\n{self.err}'

    def __str__(self):
        shown = self.crash or f'exit {self.code}: {(self.err or self.out).strip()}'
        return f'{self.call}\n      -> {shown[:600]}'


class ReadyToTrain(BaseException):
    """All that comes before a training has gone well, and nothing is trained; no handler may
    swallow it."""


def stop_here(run, configs, *args, **kwargs):
    "In the place of `runs.sweeps.sweep`."
    raise ReadyToTrain(configs[0])


class Desk:
    "A folder of its own for one case, and trained networks that all cases share."

    def __init__(self, folder, trained):
        self.folder, self.trained = Path(folder), trained
        self.folder.mkdir(parents=True)
        os.chdir(self.folder)

    def run_smoke(
        self,
        lab,  # its name
        path,  # a folder or table
        *more,  # further arguments
    ) -> Seen:
        "A lab's smoke profile on somebody's own data, up to the training."
        where = ['--source', path, '--device', 'cpu', '--out', self.folder / 'runs']
        return self.command('run', lab, '--profile', 'smoke', *where, *more)

    def command(
        self,
        *args,  # as behind `fashion_lab`
        encoding='utf-8',  # of the terminal
        # whether `run` may train; otherwise the configuration of its first run is the call's
        # `value`
        train=False,
    ) -> Seen:
        "Run the command in this process, on a terminal that refuses what its encoding cannot say."
        from fashion_lab.studio.cli import main

        args = [str(a) for a in args]
        seen = Seen(' '.join(['fashion_lab', *(ascii(a)[1:-1] for a in args)])[:300])
        out = _terminal(encoding, 'strict')
        err = _terminal(encoding, 'backslashreplace')
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter('default')
            try:
                with (
                    contextlib.nullcontext()
                    if train
                    else mock.patch('fashion_lab.runs.sweeps.sweep', stop_here)
                ):
                    seen.code = main(args)
            except ReadyToTrain as e:
                seen.value = e.args[0]
            except SystemExit as e:
                seen.code = e.code if isinstance(e.code, int) else 2
            except Exception:
                seen.crash = _last_lines()
        seen.out, seen.err = _written(out), _written(err)
        if 'Traceback (most recent call last)' in seen.text:
            seen.crash = seen.crash or seen.text[-600:]
        return seen

    def call(self, function, *args, **kwargs) -> Seen:
        "Call a function; its warnings and the errors that it may raise are text for its user."
        seen = Seen(f'{function.__module__}.{function.__qualname__}')
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter('always')
            try:
                seen.value = function(*args, **kwargs)
            except (ValueError, FileNotFoundError) as e:
                seen.code, seen.err = 2, str(e)
                if isinstance(e, UnicodeError) or not str(e):
                    seen.crash = _last_lines()
            except Exception:
                seen.crash = _last_lines()
        seen.err = '\n'.join(
            [seen.err, *(str(w.message) for w in heard if issubclass(w.category, UserWarning))]
        )
        return seen


def _terminal(encoding, errors):
    return io.TextIOWrapper(io.BytesIO(), encoding, errors, newline='')


def _written(stream) -> str:
    with contextlib.suppress(ValueError, UnicodeError):
        stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding, 'replace')


def _last_lines() -> str:
    lines = traceback.format_exc().strip().splitlines()
    places = [
        line.strip()
        for line in lines
        if line.strip().startswith('File "') and 'fashion_lab' in line
    ]
    return 'traceback: ' + ' | '.join([lines[-1], *places[-1:]])


# What a user must see


def says(text, words):
    "Whether a text holds all of some regular expressions, in any case."
    return all(re.search(w, text, re.I) for w in words)


def must(right, seen, what):
    "Fail with what a user must see, and what was seen."
    if not right:
        raise AssertionError(f'{what}\n    {seen}')


def no_crash(seen):
    must(not seen.crash, seen, 'a sentence, not a traceback')


def refused(seen, words=()):
    "The call ended with a sentence that holds `words`, and nothing else was shown as an answer."
    no_crash(seen)
    must(seen.code in (2, 3), seen, 'refused (exit code 2 or 3)')
    must(says(seen.err, words), seen, f'a reason that says {" and ".join(words)}')
    must('[Errno' not in seen.err, seen, 'a sentence, not an error number')


def done(seen, words=()):
    "The call did its work, and said `words` on the way."
    no_crash(seen)
    must(seen.code == 0, seen, 'done (exit code 0)')
    must(says(seen.text, words), seen, f'said: {" and ".join(words)}')


def in_every_way(*ways):
    "Go all ways, and fail with all that was wrong on them."
    wrong = []
    for way in ways:
        try:
            way()
        except AssertionError as e:
            wrong.append(str(e))
    if wrong:
        raise AssertionError('\n  and '.join(wrong))
