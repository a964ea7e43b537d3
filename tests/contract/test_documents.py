"""What the documents name is there: pages, headings, files, commands with their options, and Python's names."""

import ast
import re
import shlex
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from dyncity_sim.cli.main import build_parser

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "models/dyncity_models/weights/*/README.md")
    for page in ROOT.glob(pattern)
    if page.name != "CHANGELOG.md"
)
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PACKAGES = ("dyncity_sim", "dyncity_models", "dyncity_carla", "dyncity_sumo")
YOURS = ("out/", "data/", "weights/")
"""Folders that commands make, not the project."""


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


def blocks(page: Path, *languages: str) -> list[str]:
    return [code for language, code in CODE.findall(page.read_text(encoding="utf-8")) if language in languages]


def prose(page: Path) -> str:
    return CODE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def lines_of_shell(page: Path) -> list[list[str]]:
    """The words of each line in the page's shell blocks, with 1 for each variable; what is quoted may go over lines."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines, begun = [], ""
    for line in re.sub(r"\$\w+", "1", text).splitlines():
        begun += line + "\n"
        try:
            lines.append(shlex.split(begun, comments=True))
        except ValueError:
            continue
        begun = ""
    assert not begun, f"a quote is open in: {begun}"
    return lines


def mentions(page: Path) -> list[list[str]]:
    """The words of each command within the page's prose, often in part."""
    return [code.split() for code in re.findall(r"`((?:dyncity|python) [a-z][^`]+)`", prose(page))]


@every_page
def test_links_lead_to_pages_and_headings_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@every_page
def test_commands_of_shell_blocks_can_be_typed_as_they_are(page: Path) -> None:
    for line in lines_of_shell(page):
        if "dyncity" in line and not {"--help", "mine"} & set(line):
            words = line[line.index("dyncity") + 1 :]
            build_parser(words).parse_args(words)


@every_page
def test_options_of_commands_in_the_prose_are_options_of_theirs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _, command, *rest in (words for words in mentions(page) if words[0] == "dyncity"):
        words = [command, *rest, "--help"]
        with pytest.raises(SystemExit) as ended:
            build_parser(words).parse_args([command, "--help"] if command != "scene" else words)
        assert ended.value.code == 0, words
        options = {word.strip("[]").partition("=")[0] for word in rest if word.startswith(("--", "[--"))}
        assert options <= set(re.findall(r"--[\w-]+", capsys.readouterr().out)), words


@every_page
def test_scripts_of_benchmarks_and_examples_are_there_with_their_options(page: Path) -> None:
    for words in [line for line in lines_of_shell(page) + mentions(page) if "python" in line]:
        script, *rest = words[words.index("python") + 1 :]
        if not script.startswith(("benchmarks/", "examples/")):
            continue
        source = (ROOT / script).read_text(encoding="utf-8")
        for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
            assert f'"{option}"' in source, words


@every_page
def test_files_of_ours_that_are_named_are_there(page: Path) -> None:
    for name in re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|sh|yaml|md|proto|json|webp))`", prose(page)):
        folders = [
            ROOT / folder
            for folder in (
                "",
                "dyncity_sim",
                "models",
                "models/dyncity_models",
                "configs/anchored",
                "configs/reference",
            )
        ]
        assert name.startswith(YOURS) or any((folder / name).exists() for folder in folders), name


@every_page
def test_names_of_ours_can_be_imported(page: Path) -> None:
    for name in re.findall(rf"`((?:{'|'.join(PACKAGES)})\.[\w.]+)", prose(page)):
        assert found(name) or entry_points(group=name), name


@every_page
def test_blocks_of_python_are_python_and_their_imports_are_there(page: Path) -> None:
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGES):
                for alias in node.names:
                    assert found(f"{node.module}.{alias.name}"), alias.name


def found(name: str) -> bool:
    """Whether a dotted name is a module, or leads to an attribute of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            thing = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(thing, part):
                return part in getattr(thing, "__annotations__", {})
            thing = getattr(thing, part)
        return True
    return False
