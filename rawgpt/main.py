"""The `rawgpt` command: names its subcommands and turns every error into one line and an exit code.

Each subcommand is a file of its own and imports what is heavy when it runs, so `--help` is quick.
"""

import os
import sys
import traceback

import typer
from typer.exceptions import TyperException

from rawgpt.ask import ask
from rawgpt.chat import chat
from rawgpt.doctor import doctor
from rawgpt.exit_codes import EXIT_FAULT, EXIT_GOOD, EXIT_PASSING, EXIT_USER, PassingFailure
from rawgpt.export import export
from rawgpt.plan import plan
from rawgpt.sample import sample
from rawgpt.serve import serve
from rawgpt.summary import summary
from rawgpt.verify import verify

cli = typer.Typer(
    name="rawgpt",
    help="A GPT from raw tensors to an attested enclave.\n\n"
    "`dvc repro` builds everything; these commands use and check what it built. Run them from the "
    "repository's root.\n\n"
    "Exit codes: 0 good, 1 a mistake in the command or in what it reads, 2 a fault of rawgpt, "
    "75 a failure that may pass (try again).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (sample, chat, ask, serve, export, doctor, verify, plan, summary)
for each in COMMANDS:
    cli.command()(each)


def app() -> None:
    """Run the command line of this process."""
    raise SystemExit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Run one command; return its exit code. An error is one line on stderr."""
    command = typer.main.get_command(cli)
    known = {each.__name__ for each in COMMANDS}
    label = " ".join(["rawgpt", *[word for word in argv[:1] if word in known]])
    try:
        # not command.main(): it would answer a closed pipe with exit code 1
        with command.make_context("rawgpt", list(argv)) as context:
            code = command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as error:
        return error.exit_code
    except TyperException as error:
        if not argv:  # the help was asked for by saying nothing; it is on the screen
            return EXIT_GOOD
        return _fail(label, f"{_one_line(error.format_message())} (see `{label} --help`)", EXIT_USER)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_GOOD
    except (PassingFailure, ConnectionError, TimeoutError) as error:
        return _fail(label, str(error), EXIT_PASSING)
    except ValueError as error:
        return _fail(label, str(error), EXIT_USER)
    except OSError as error:
        return _fail(label, f"{error.filename or 'a file'}: {error.strerror or error}", EXIT_USER)
    except FloatingPointError as error:
        return _fail(label, str(error), EXIT_FAULT)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except Exception:
        traceback.print_exc()
        return _fail(label, "a fault of rawgpt, not of yours: please report it", EXIT_FAULT)
    return code if isinstance(code, int) else EXIT_GOOD


def _fail(label: str, message: str, code: int) -> int:
    print(f"{label}: {message}", file=sys.stderr)
    return code


def _one_line(message: str) -> str:
    """Join the lines of a parser's message."""
    return " ".join(message.split())
