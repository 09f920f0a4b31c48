"""What becomes of the `s2ca` command where its streams, its memory or its time run out."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys

import pytest

from nnunetv2_s2ca.api.logger import report
from nnunetv2_s2ca.cli import main
from tests.hangup import hangup_not_ignored
from tests.waiting import MINUTES, wait_for

# The command with one of its parts replaced by what a test wants it to do
PROGRAM = """
import os, sys, time
from nnunetv2_s2ca import cli
from nnunetv2_s2ca.api.logger import report
from nnunetv2_s2ca.commands import trainers
from nnunetv2_s2ca.core.errors import UserError, disk_errors_named

def run(args):
    {behaviour}

trainers.run = run
sys.exit(cli.main({arguments}))
"""
LITTLE, MUCH = "print('hello')", "print('x' * 10**6)"
REPORTED = "report('x' * 10**6)"
REFUSED = "raise UserError('no such label')"
FULL = "s2ca trainers: error: the standard output cannot be written: No space left on device\n"
LABEL = "s2ca trainers: error: no such label\n"


def start(
    behaviour: str, redirections: str = "", *, arguments: str = "['trainers']", **environment: str
) -> subprocess.Popen[str]:
    program = PROGRAM.format(behaviour=behaviour, arguments=arguments)
    with hangup_not_ignored():
        return subprocess.Popen(
            ["bash", "-c", f'exec "$@" {redirections}', "bash", sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )


def run(*arguments, **options) -> tuple[int, str, str]:
    process = start(*arguments, **options)
    output, errors = process.communicate(timeout=MINUTES)
    return process.returncode, output, errors


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    ("behaviour", "redirections", "code", "errors"),
    [
        (LITTLE, ">/dev/full", 1, FULL),
        (MUCH, ">/dev/full", 1, FULL),
        (f"with disk_errors_named(): {REPORTED}", ">/dev/full", 1, FULL),
        (f"{MUCH}; {REFUSED}", ">/dev/full", 1, FULL),
        (f"with disk_errors_named('written'): {MUCH}", ">/dev/full", 1, FULL),
        (REFUSED, ">/dev/full", 1, LABEL),
        (LITTLE, "2>/dev/full", 0, ""),
        (REFUSED, "2>/dev/full", 1, ""),
        (LITTLE, ">/dev/full 2>/dev/full", 1, ""),
        (LITTLE, ">&-", 0, ""),
        (MUCH, ">&-", 0, ""),
        (REFUSED, ">&-", 1, LABEL),
        (LITTLE, "2>&-", 0, ""),
        (REFUSED, "2>&-", 1, ""),
        (REFUSED, "<&- >&- 2>&-", 1, ""),
    ],
)
def test_stream_that_is_gone_is_no_traceback(behaviour, redirections, code, errors, unbuffered):
    result = run(behaviour, redirections, PYTHONUNBUFFERED=unbuffered)
    assert (result[0], result[2]) == (code, errors)


@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stdout and stderr"])
@pytest.mark.parametrize("behaviour", [LITTLE, MUCH, REPORTED, f"with disk_errors_named(): {MUCH}"])
def test_pipe_that_nobody_reads_ends_the_command_as_sigpipe_does(behaviour, both):
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(behaviour=behaviour, arguments="['trainers']")],
        stdout=writing,
        stderr=writing if both else subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    _, errors = process.communicate(timeout=MINUTES)
    assert process.returncode == 128 + signal.SIGPIPE
    assert not errors


def test_a_program_that_calls_the_command_gets_its_logger_back(monkeypatch):
    logger = logging.getLogger("nnunetv2_s2ca")
    before = list(logger.handlers), logger.level, logger.propagate
    with monkeypatch.context() as context, io.StringIO() as output:
        context.setattr(sys, "stdout", output)
        context.setattr("nnunetv2_s2ca.commands.trainers.run", lambda args: report("hello"))
        assert main(["trainers"]) == 0
        assert output.getvalue() == "hello\n"
    assert (list(logger.handlers), logger.level, logger.propagate) == before
    report("the former output is closed, which is no error")


def test_help_that_cannot_be_printed_is_an_error():
    code, _, errors = run("pass", ">/dev/full", arguments="['--help']")
    assert code == 1
    assert errors == FULL.replace(" trainers", "")


def test_a_file_opened_after_closed_streams_gets_none_of_what_is_printed(tmp_path):
    behaviour = (
        f"file = open({str(tmp_path / 'file')!r}, 'w'); os.write(1, b'printed'); "
        "os.write(2, b'printed'); file.write('content'); file.close()"
    )
    assert run(behaviour, "<&- >&- 2>&-")[0] == 0
    assert (tmp_path / "file").read_text() == "content"


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("raise MemoryError", "out of memory"),
        ("raise ImportError('x.so: failed to map segment from shared object')", "out of memory"),
        ("raise OSError(28, 'No space left on device', '/data/x')", "/data/x: No space left on d"),
        ("raise OSError(5, 'Input/output error')", "Input/output error"),
        ("raise UserError('\\x1b[2J\\x9b1m\\u202e\\r\\x00a')", r"\x1b[2J\x9b1m\u202e\r\x00a"),
        ("raise UserError('a\\n  b\\tc')", "a\n  b\tc"),
        ("raise UserError('caf\\udce9')", r"caf\udce9"),
    ],
)
def test_what_ends_a_command_is_one_message_that_harms_no_terminal(behaviour, message):
    code, _, errors = run(behaviour)
    assert code == 1
    assert errors.startswith(f"s2ca trainers: error: {message}")
    assert errors.replace("\n", "").replace("\t", "").isprintable()


def test_a_mistake_of_the_program_itself_still_shows_where_it_is():
    code, _, errors = run("raise KeyError('oops')")
    assert code == 1
    assert "Traceback" in errors


@pytest.mark.parametrize("text", [r"Gl\xfcck", r"caf\udce9", r"\u8111"])
def test_text_that_the_locale_lacks_is_escaped(text):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, output, errors = run(f"print('{text}'); raise UserError('{text}')", **plain)
    assert code == 1
    assert (output, errors) == (f"{text}\n", f"s2ca trainers: error: {text}\n")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGINT, "s2ca trainers: interrupted\n"),
        (signal.SIGTERM, ""),
        (signal.SIGHUP, ""),
    ],
)
def test_signal_ends_the_command_with_the_shells_code(tmp_path, number, message):
    ready, left = tmp_path / "ready", tmp_path / "left"
    behaviour = (
        f"try: open({str(ready)!r}, 'w').close(); time.sleep(3600)\n"
        f"    finally: open({str(left)!r}, 'w').close()"
    )
    process = start(behaviour)
    wait_for(ready.exists)
    process.send_signal(number)
    _, errors = process.communicate(timeout=MINUTES)
    assert process.returncode == 128 + number
    assert errors == message
    assert left.exists()
