import argparse
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

import dyncity_sim
from dyncity_sim import extras
from dyncity_sim.cli import main as cli
from dyncity_sim.cli import plugins
from dyncity_sim.errors import BusyError, ConfigError, DyncityError, InvalidInputError


@pytest.fixture
def plugin(monkeypatch, tmp_path):
    """A function that writes a module and makes it the one plugin command, called ``extra``."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, source, value=None):
        (tmp_path / f"{name}.py").write_text(source)
        entry_point = EntryPoint("extra", value or f"{name}:register", plugins.COMMAND_GROUP)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [entry_point])

    yield install
    for name in [n for n, m in sys.modules.items() if (getattr(m, "__file__", None) or "").startswith(str(tmp_path))]:
        del sys.modules[name]


REGISTER = """
def register(subparsers):
    parser = subparsers.add_parser("extra")
    parser.add_argument("--answer", type=int)
    parser.set_defaults(run=lambda args: args.answer)
"""


def test_a_command_of_another_package_runs_with_its_own_arguments(plugin):
    plugin("plug_a", REGISTER)
    assert cli.main(["extra", "--answer", "7"]) == 7


def test_other_commands_are_listed_without_being_imported(plugin, capsys):
    plugin("plug_b", "raise SystemExit('imported')")
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    assert "from plug_b" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import a_package_that_is_not_there", "a_package_that_is_not_there"),
        ("", "register"),
        ("from os import no_such_name", "no_such_name"),
    ],
)
def test_a_broken_command_says_why_when_it_is_used(plugin, capsys, source, said):
    plugin("plug_c", source)
    assert cli.main(["extra", "--steps", "3", "x"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("dyncity: error: The command 'extra'")
    assert said in error
    assert error.count("\n") == 1


def test_a_command_whose_extra_is_missing_names_the_extra(plugin, capsys, tmp_path):
    package = tmp_path / "dyncity_carla_like"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "commands.py").write_text("import a_simulator_client")
    plugin("unused", "", value="dyncity_carla_like.commands:register")
    extras.EXTRAS["dyncity_carla_like"] = "carla"
    try:
        assert cli.main(["extra"]) == 1
    finally:
        del extras.EXTRAS["dyncity_carla_like"]
    assert "pip install '.[carla]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "0"],
        ["train", "vae"],
        ["encode", "data", "--autoencoder", "vae", "--out", "latents"],
        ["evaluate", "data"],
        ["import-checkpoint", "run", "--out", "weights"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_without_torch_what_needs_it_names_the_extra_in_one_line(arguments):
    code = "import sys; sys.modules['torch'] = None; from dyncity_sim.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "'torch', which is not installed. Install it with: pip install '.[models]'" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInputError("f", 1, "2"), 2),
        (ConfigError("c", 1, "2"), 2),
        (DyncityError("x"), 1),
        (BusyError("full", 1.0), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_exit_codes_and_at_most_one_line(monkeypatch, capsys, error, code):
    def fail(_):
        raise error

    def build_parser(_):
        parser = argparse.ArgumentParser()
        parser.set_defaults(run=fail)
        return parser

    monkeypatch.setattr(cli, "build_parser", build_parser)
    assert cli.main([]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == ("" if code == 130 else f"dyncity: error: {error}\n")


def test_a_programming_error_is_not_dressed_up(plugin):
    plugin("plug_d", REGISTER.replace("args.answer", "1 / 0"))
    with pytest.raises(ZeroDivisionError):
        cli.main(["extra"])


@pytest.mark.parametrize("command", cli.CORE_COMMANDS)
def test_every_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert "examples:" in capsys.readouterr().out


INSTALLED = [*cli.CORE_COMMANDS, *plugins.SUMMARIES]


def test_each_command_of_ours_has_its_line_in_the_list(capsys):
    assert set(INSTALLED) >= set(plugins.names_in(plugins.COMMAND_GROUP))
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "from dyncity_" not in capsys.readouterr().out


@pytest.mark.parametrize("command", INSTALLED)
def test_help_names_no_default_that_tells_nothing_and_each_default_once(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert not re.search(r"\(default: (None|False|\[\]|)\)", text)
    assert not re.search(r"\(default: [^)]*\) \(default: ", text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["comsi"], "dyncity: error: argument COMMAND: invalid choice: 'comsi'"),
        (["comsi"], "; did you mean cosim?"),
        (["no-such-command"], "'train')\n"),
        (["serve", "--prot", "5"], "dyncity serve: error: unrecognized arguments: --prot 5; did you mean --port?\n"),
        (["serve", "--prot=5"], "; did you mean --port?\n"),
        (["serve", "--max", "5"], "; did you mean --max-queue?\n"),
        (["scene", "validat", "out"], "; did you mean validate?\n"),
        (["scene", "show", "out", "--jsn"], "dyncity scene show: error: unrecognized arguments: --jsn\n"),
        (
            ["train", "vae", "--confg"],
            "dyncity train vae: error: unrecognized arguments: --confg; did you mean --config?",
        ),
    ],
)
def test_a_word_that_is_unknown_is_told_by_its_command_with_what_is_near(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "65536"],
        ["serve", "--port", "x"],
        ["serve", "--max-queue", "-1"],
        ["serve", "--threads", "0"],
        ["serve", "--grace", "nan"],
        ["info"],
        ["no-such-command"],
        [],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: dyncity" in capsys.readouterr().err


def test_the_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"dyncity {dyncity_sim.__version__}\n"


def test_help_loads_nothing_heavy():
    code = "import sys; from dyncity_sim.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print('LOADED', [m for m in ('torch', 'carla', 'libsumo', 'scipy', 'grpc') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("LOADED []\n")


@pytest.mark.parametrize("chosen", [None, "7"])
def test_threads_that_wait_spin_briefly_unless_the_user_chose(chosen, monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if chosen is not None:
        monkeypatch.setenv("GOMP_SPINCOUNT", chosen)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert os.environ["GOMP_SPINCOUNT"] == (chosen or "10000")
    monkeypatch.delenv("GOMP_SPINCOUNT")


@pytest.mark.parametrize("timeout", ["nan", "inf", "0", "-1"])
def test_a_time_that_is_none_is_refused(timeout, capsys):
    with pytest.raises(SystemExit):
        cli.main(["info", "--server", "localhost:1", "--timeout", timeout])
    assert "argument --timeout" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_told_in_words(capsys):
    assert cli.main(["info", "--server", "localhost:1", "--timeout", "5"]) == 1
    assert "localhost:1: no server answers there. Start one with dyncity serve" in capsys.readouterr().err


HUNG_UP = """
import signal, sys
from dyncity_sim.cli.signals import terminated_like_interrupted

signal.signal(signal.SIGHUP, getattr(signal, sys.argv[1]))
try:
    with terminated_like_interrupted():
        signal.raise_signal(signal.SIGHUP)
    print("went on")
finally:
    print("unwound")
"""


@pytest.mark.parametrize(
    ("before", "said", "code"), [("SIG_DFL", ["unwound"], 129), ("SIG_IGN", ["went on", "unwound"], 0)]
)
def test_a_terminal_that_closes_ends_a_command_as_sigterm_does_unless_it_runs_under_nohup(before, said, code):
    done = subprocess.run([sys.executable, "-c", HUNG_UP, before], check=False, capture_output=True, text=True)
    assert (done.stdout.splitlines(), done.returncode) == (said, code)
