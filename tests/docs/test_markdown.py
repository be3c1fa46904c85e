"""The documentation is run: its Python as programs, its commands as far as asking whether they exist.

The ```` ```python ```` blocks of a file are one program from top to bottom, run in an empty folder; a block marked
```` ```python fresh ```` begins another one. The ```` ```sh ```` and ```` ```console ```` blocks have side effects
(`make run` starts a server), so only the existence of each `make` target, subcommand and option is checked.
"""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROSE = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL)
COMMAND_LINES = {"millrace", "parcomolo"}
FIRST_CODE_BEFORE_LINE = 40
SECONDS_MAX = 60


@dataclass(frozen=True)
class Block:
    """A fenced block: the words after the fence, the line of the fence, the text."""

    words: tuple[str, ...]
    line: int
    body: str


def blocks(path: Path, *languages: str) -> list[Block]:
    """The file's blocks in one of the languages, in order."""
    text = path.read_text()
    found = [Block(tuple(match["info"].split()), text.count("\n", 0, match.start()) + 1, match["body"]) for match in FENCE.finditer(text)]
    return [block for block in found if block.words and block.words[0] in languages]


def programs() -> Iterator[object]:
    """Per program a test case: where it begins, and its text on the same lines as in the file."""
    for path in PROSE:
        begun: list[list[Block]] = []
        for block in blocks(path, "python"):
            if not begun or "fresh" in block.words:
                begun.append([])
            begun[-1].append(block)
        for program in begun:
            source = ""
            for block in program:
                source += "\n" * (block.line - source.count("\n")) + textwrap.dedent(block.body)
            yield pytest.param(source, id=f"{path.relative_to(ROOT)}:{program[0].line}")


@pytest.mark.parametrize("source", list(programs()))
def test_python_blocks_run(source: str, tmp_path: Path) -> None:
    """What a reader copies out of the documentation into an empty folder works; a traceback shows the file's lines."""
    run = started(source, tmp_path)

    assert run.returncode == 0, run.stdout + run.stderr


def started(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a program did in a folder."""
    script = folder / "documented.py"
    script.write_text(source)
    return subprocess.run([sys.executable, script.name], capture_output=True, check=False, cwd=folder, text=True, timeout=SECONDS_MAX)


def test_readme_says_what_its_first_program_prints(tmp_path: Path) -> None:
    """The first run prints what the comment says, the next one is refused as the sentence below says."""
    program = blocks(ROOT / "README.md", "python")[0].body
    first, again = started(program, tmp_path), started(program, tmp_path)

    assert f"# {first.stdout.strip()}\n" in program
    assert again.returncode == 1
    assert f"`{again.stderr.splitlines()[-1].removeprefix('millrace.errors.')}`" in (ROOT / "README.md").read_text()


def test_readme_shows_code_at_once() -> None:
    """The first program of the README stands on its first screen."""
    programs = blocks(ROOT / "README.md", "python")

    assert programs, "README.md has no ```python block"
    assert programs[0].line < FIRST_CODE_BEFORE_LINE


def commands() -> Iterator[object]:
    """Per command in the documentation a test case with its words."""
    for path in PROSE:
        for block in blocks(path, "sh", "bash", "console"):
            prompted = "console" in block.words
            for number, line in enumerate(joined(block.body), start=block.line + 1):
                if prompted and not line.startswith("$ "):
                    continue
                for words in split(line.removeprefix("$ ")):
                    yield pytest.param(words, id=f"{path.relative_to(ROOT)}:{number}:{'-'.join(words)[:60]}")


def joined(body: str) -> list[str]:
    """The block's lines, a continued command on the line where it begins."""
    return re.sub(r"\\\n *", lambda _: "", body).splitlines()


def split(line: str) -> Iterator[list[str]]:
    """The simple commands of a shell line, settings before the command left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("();<>|&"):
            if words:
                yield words
            words = []
        elif words or not re.match(r"\w+=", token):
            words.append(token)


def make_targets() -> set[str]:
    """The words that the Makefile explains."""
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("words", list(commands()))
def test_commands_exist(words: list[str]) -> None:
    """Every `make` target, subcommand and option that the documentation names is there."""
    name, *rest = words[0].rsplit("/")[-1], *words[1:]
    if name == "make":
        assert {each for each in rest if "=" not in each and not each.startswith("-")} <= make_targets()
    elif name in COMMAND_LINES:
        # The parser reads from left to right and answers --help once all words before it were understood.
        run = subprocess.run(
            [Path(sys.executable).parent / name, *rest, "--help"],
            capture_output=True,
            check=False,
            env={**os.environ, "COLUMNS": "120"},
            text=True,
            timeout=SECONDS_MAX,
        )
        assert run.returncode == 0, run.stdout + run.stderr


def test_make_explains_every_target() -> None:
    """`make help` lists all there is to call, so nothing has to be found out by reading the Makefile."""
    phony = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert phony is not None
    assert set(phony[1].split()) == make_targets()
