"""The project's own files and the functions in them, as the house rules see them.

Everything that is tracked, or would be at the next commit, belongs to the tree; ignored files do not. The rules
themselves stand in `test_tidy.py`; this module only reads.
"""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"millrace": "src/millrace", "parcomolo": "parcomolo/src/parcomolo"}
CODE = (*PACKAGES.values(), "tests", "benchmarks", "examples")
AS_PUBLISHED = "benchmarks/peers/"
"""Programs by others, measured as they are; a tidied copy would be another program."""

NOT_OURS = {"__pycache__", "build", "data", "dist", "node_modules"}

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """A function or method with what the house rules ask about it."""

    path: str
    qualified: str
    node: FunctionNode
    parent: ast.ClassDef | FunctionNode | None

    @property
    def place(self) -> str:
        """Where to look, in the form that editors open."""
        return f"{self.path}:{self.node.lineno} {self.qualified}"

    @property
    def public(self) -> bool:
        """Whether a user of the module can name it."""
        names = self.qualified.split(".")
        return not isinstance(self.parent, FunctionNode) and not any(name.startswith("_") for name in names)

    @property
    def body_lines(self) -> int:
        """Lines from the first statement after the docstring to the last, blank lines and comments included."""
        statements = self.node.body[1:] if ast.get_docstring(self.node) is not None else self.node.body
        if not statements:
            return 0
        return (self.node.end_lineno or 0) - statements[0].lineno + 1

    @property
    def positional(self) -> list[str]:
        """Names of the parameters that can be passed without their name, `self` and `cls` left out."""
        arguments = self.node.args
        names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        bound = isinstance(self.parent, ast.ClassDef) and "staticmethod" not in self.decorators
        return names[1:] if bound else names

    @property
    def parameters(self) -> list[str]:
        """Names of all parameters but `self`, `cls`, `*args`, `**kwargs` and the three Python hands to a metaclass."""
        given = 3 if self.node.name == "__new__" and self.positional[1:3] == ["bases", "namespace"] else 0
        return self.positional[given:] + [argument.arg for argument in self.node.args.kwonlyargs]

    @property
    def decorators(self) -> set[str]:
        """Last names of the decorators: `overload` for `@typing.overload`."""
        return {ast.unparse(each).split("(")[0].rsplit(".")[-1] for each in self.node.decorator_list}


@cache
def files() -> tuple[str, ...]:
    """Paths of all files of the project relative to its root, sorted."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
        text=True,
    )
    names = listing.stdout.split("\0") if listing.returncode == 0 and listing.stdout else list(_walk(ROOT))
    return tuple(sorted({name for name in names if name and (ROOT / name).is_file()}))


def _walk(folder: Path) -> Iterator[str]:
    """All files of an unpacked copy without its history, hidden caches left out."""
    for entry in folder.iterdir():
        hidden = entry.name.startswith(".") and entry.name not in {".ci", ".gitignore"}
        if hidden or entry.name in NOT_OURS:
            continue
        if entry.is_dir():
            yield from _walk(entry)
        else:
            yield entry.relative_to(ROOT).as_posix()


def code(*suffixes: str, below: tuple[str, ...] = CODE) -> list[str]:
    """Files with one of the suffixes below the given folders, other people's programs left out."""
    return [
        path
        for path in files()
        if path.endswith(suffixes) and path.startswith(tuple(f"{folder}/" for folder in below)) and not path.startswith(AS_PUBLISHED)
    ]


@cache
def text(path: str) -> str | None:
    """The file's text, or None where it is not UTF-8 text."""
    content = (ROOT / path).read_bytes()
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


@cache
def parsed(path: str) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(text(path) or "", filename=path)


@cache
def functions(path: str) -> tuple[Function, ...]:
    """All functions and methods of a Python file, nested ones included."""
    return tuple(_functions(path, parsed(path), parent=None, prefix=""))


def _functions(path: str, node: ast.AST, *, parent: ast.ClassDef | FunctionNode | None, prefix: str) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FunctionNode):
            yield Function(path, prefix + child.name, child, parent)
        if isinstance(child, ast.ClassDef | FunctionNode):
            yield from _functions(path, child, parent=child, prefix=f"{prefix}{child.name}.")
        else:
            yield from _functions(path, child, parent=parent, prefix=prefix)


def module_name(path: str) -> str | None:
    """`src/millrace/engines/sqlite/log.py` -> `millrace.engines.sqlite.log`; None outside the packages."""
    for package, folder in PACKAGES.items():
        if path.startswith(f"{folder}/") and path.endswith(".py"):
            parts = [package, *Path(path).relative_to(folder).with_suffix("").parts]
            return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return None
