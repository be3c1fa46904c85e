"""House rules with numbers. CONTRIBUTING.md lists them; this file holds the project to them.

Hard limits are for ever. The share of short bodies is a ratchet: it may not fall below the figure recorded here, and
once the code is clearly better the figure has to follow, so that what was gained stays. An exemption names its reason,
and one that is no longer needed fails the build.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath

import pytest

from tests.architecture.source_tree import (
    CODE,
    PACKAGES,
    Function,
    code,
    files,
    functions,
    module_name,
    parsed,
    text,
)

BODY_LINES_MAX = 70
BODY_LINES_SHORT = 20
FILE_LINES_MAX = 600
PARAMETERS_MAX = 7
POSITIONAL_MAX = 3
FOLDERS_MAX = 2
PORT_METHODS_MAX = 7

RATCHET_SLACK_PERCENT = 8
SHORT_BODIES_PERCENT = {
    "packages": 92,
    "tests and benchmarks": 98,
}
"""What has been reached: whole percent of bodies with at most `BODY_LINES_SHORT` lines."""

TREES = {
    "packages": tuple(PACKAGES.values()),
    "tests and benchmarks": ("tests", "benchmarks", "examples"),
}

POSITIONAL_EXEMPT: dict[str, str] = {}
"""`path qualified.name` of public functions with more than `POSITIONAL_MAX` positional parameters -> the reason."""

PROSE_AT_ROOT = {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"}
NAMES_THAT_SAY_NOTHING = {"util", "utils", "helper", "helpers", "manager", "managers", "base", "common", "misc"}
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIXM[E]|XX[X])\b")
MACHINE_PATH = re.compile(r"(?<![\w.:/$}])/(?:work|root|home|farm)/[\w.-]")
REGISTRY = re.compile(r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|repo1?\.maven|--(?:extra-)?index-url|--find-link[s]")
SQL = re.compile(r"\s*(?:insert\s+(?:or\s+\w+\s+)?into|select\b.*\bfrom|delete\s+from|update\s+\w+\s+set|create\s+table)\b")


def none_of(offences: Iterable[str], rule: str) -> None:
    """Fail with one line per offence, so that a run names all of them."""
    found = sorted(offences)
    assert not found, f"{rule}:\n" + "\n".join(found)


def all_functions(*, below: tuple[str, ...] = CODE) -> Iterator[Function]:
    """Every function below the folders."""
    for path in code(".py", below=below):
        yield from functions(path)


def test_bodies_have_a_hard_limit() -> None:
    """No function body is longer than a page of an editor."""
    none_of(
        (f"{each.place}: {each.body_lines} lines" for each in all_functions() if each.body_lines > BODY_LINES_MAX),
        f"bodies above {BODY_LINES_MAX} lines",
    )


@pytest.mark.parametrize("tree", TREES)
def test_most_bodies_are_short(tree: str) -> None:
    """The share of short bodies never falls, and the recorded share follows what was reached."""
    lengths = [each.body_lines for each in all_functions(below=TREES[tree])]
    if not lengths:
        pytest.skip(f"there are no {tree} yet")
    share = 100 * sum(length <= BODY_LINES_SHORT for length in lengths) // len(lengths)
    recorded = SHORT_BODIES_PERCENT[tree]

    assert share >= recorded, f"{share} % of the bodies in {tree} have at most {BODY_LINES_SHORT} lines, was {recorded}"
    assert share <= recorded + RATCHET_SLACK_PERCENT, f"better than recorded: set {tree!r} to {share - 1}"


def test_files_have_a_hard_limit() -> None:
    """No file is longer than one can hold in mind."""
    lengths = {path: (text(path) or "").count("\n") for path in code(".py", ".css", ".js", ".sql")}
    none_of(
        (f"{path}: {lines} lines" for path, lines in lengths.items() if lines > FILE_LINES_MAX),
        f"files above {FILE_LINES_MAX} lines",
    )


def test_parameters_are_few() -> None:
    """More parameters than this means a value is missing; a test's parameters are fixtures and do not count."""
    none_of(
        (
            f"{each.place}: {', '.join(each.parameters)}"
            for each in all_functions()
            if len(each.parameters) > PARAMETERS_MAX and not each.node.name.startswith("test_")
        ),
        f"functions with more than {PARAMETERS_MAX} parameters",
    )


def too_many_positional() -> dict[str, str]:
    """`path qualified.name` -> where, of the toolkit's public functions that a call of cannot be read."""
    return {
        f"{each.path} {each.qualified}": f"{each.place}: {', '.join(each.positional)}"
        for each in all_functions(below=(PACKAGES["millrace"],))
        if each.public and "testing" not in each.path.split("/") and len(each.positional) > POSITIONAL_MAX
    }


def test_calls_name_their_arguments() -> None:
    """Public functions of the toolkit take at most three arguments by position; the others are keyword-only."""
    found = too_many_positional()
    none_of(
        (where for name, where in found.items() if name not in POSITIONAL_EXEMPT),
        f"public functions with more than {POSITIONAL_MAX} positional parameters",
    )


def test_exemptions_are_needed() -> None:
    """An exemption that nothing needs any more is removed."""
    none_of(POSITIONAL_EXEMPT.keys() - too_many_positional().keys(), "exemptions without need")


def protocols() -> Iterator[tuple[str, ast.ClassDef]]:
    """The protocols of the toolkit."""
    for path in code(".py", below=(PACKAGES["millrace"],)):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(each) for each in node.bases):
                yield path, node


def test_ports_are_small() -> None:
    """A port that grows a method per query costs every engine; optional abilities are protocols of their own."""
    sizes = {
        f"{path}:{node.lineno} {node.name}": sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body)
        for path, node in protocols()
    }
    none_of(
        (f"{place}: {size} methods" for place, size in sizes.items() if size > PORT_METHODS_MAX),
        f"protocols with more than {PORT_METHODS_MAX} methods",
    )


def module_level_imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run when the module is imported."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from module_level_imports(child)


def imported(node: ast.Import | ast.ImportFrom, *, module: str, is_package: bool) -> Iterator[str]:
    """Dotted names an import statement may mean, the longest first per name."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    parts = module.split(".")
    above = parts[: len(parts) - node.level + is_package] if node.level else []
    source = ".".join([*above, node.module] if node.module else above)
    for alias in node.names:
        yield f"{source}.{alias.name}"


def import_graph() -> dict[str, set[str]]:
    """Module -> modules of the same packages that it imports at module level."""
    paths = {name: path for path in code(".py") if (name := module_name(path))}
    graph: dict[str, set[str]] = defaultdict(set)
    for module, path in paths.items():
        for node in module_level_imports(parsed(path)):
            for name in imported(node, module=module, is_package=path.endswith("__init__.py")):
                target = next((each for each in (name, name.rpartition(".")[0]) if each in paths), None)
                if target and target != module:
                    graph[module].add(target)
    return graph


def test_imports_form_no_cycle() -> None:
    """Each module can be read, and imported, before those that use it."""
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as knot:
        pytest.fail("import cycle: " + " -> ".join(reversed(knot.args[1])))


def depth(path: str, *, below: str) -> int:
    """Folders between the two."""
    return len(PurePosixPath(path).relative_to(below).parts) - 1


def nearest_package(path: str) -> str:
    """The innermost folder above a file that holds Python modules."""
    with_modules = {str(PurePosixPath(each).parent) for each in code(".py")}
    return next((str(each) for each in PurePosixPath(path).parents if str(each) in with_modules), ".")


def test_folders_are_flat() -> None:
    """A listing two folders deep shows the architecture; what a module serves lies at most two folders below it."""
    modules = set(code(".py", ".sql"))
    none_of(
        (
            path
            for folder in CODE
            for path in files()
            if path.startswith(f"{folder}/") and depth(path, below=folder if path in modules else nearest_package(path)) > FOLDERS_MAX
        ),
        f"files more than {FOLDERS_MAX} folders below their package",
    )


def test_files_are_named_after_their_noun() -> None:
    """A file whose name says nothing becomes the place for everything."""
    none_of(
        (
            path
            for path in code(".py", ".css", ".js", ".sql")
            for part in PurePosixPath(path).with_suffix("").parts
            if NAMES_THAT_SAY_NOTHING & set(part.split("_"))
        ),
        "names that say nothing",
    )


def test_modules_say_what_they_are_for() -> None:
    """Every module opens with its purpose and its contract with its neighbours."""
    none_of(
        (path for path in code(".py") if not ast.get_docstring(parsed(path))),
        "modules without a docstring",
    )


def test_public_things_are_documented() -> None:
    """Public classes and functions of the toolkit, and the methods of its protocols, state what they guarantee."""
    package = (PACKAGES["millrace"],)
    undocumented = [
        each.place
        for each in all_functions(below=package)
        if each.parent is None and each.public and "overload" not in each.decorators and not ast.get_docstring(each.node)
    ]
    for path in code(".py", below=package):
        undocumented += [
            f"{path}:{node.lineno} {node.name}"
            for node in parsed(path).body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
        ]
    for path, node in protocols():
        undocumented += [
            f"{path}:{each.lineno} {node.name}.{each.name}"
            for each in node.body
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            and not each.name.startswith("_")
            and not node.name.startswith("_")
            and not ast.get_docstring(each)
        ]
    none_of(undocumented, "public things without a docstring")


def test_tests_say_what_they_prove() -> None:
    """The name of a test is short because its docstring carries the sentence."""
    none_of(
        (
            each.place
            for each in all_functions(below=("tests", f"{PACKAGES['millrace']}/testing"))
            if each.node.name.startswith("test_")
            and not isinstance(each.parent, ast.FunctionDef | ast.AsyncFunctionDef)
            and not ast.get_docstring(each.node)
        ),
        "tests without a docstring",
    )


def sleeps(tree: ast.Module) -> Iterator[int]:
    """Lines that wait for a time instead of a position or a signal."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time" | "asyncio" | "anyio"), attr="sleep")):
                yield node.lineno
            case ast.ImportFrom(module="time" | "asyncio" | "anyio", names=names):
                yield from (node.lineno for alias in names if alias.name == "sleep")


def test_tests_do_not_sleep() -> None:
    """A test that waits for a time is slow on a fast machine and wrong on a slow one."""
    none_of(
        (f"{path}:{line}" for path in code(".py", below=("tests",)) for line in sleeps(parsed(path))),
        "sleeping tests",
    )


def test_tests_do_not_mock() -> None:
    """Our own types are used as they are; what is outside has a simulation that is held to the same suite."""
    none_of(
        (
            f"{path}:{node.lineno}"
            for path in code(".py")
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.Import | ast.ImportFrom)
            and any(
                name.startswith(("unittest.mock", "mock.", "pytest_mock")) or name == "mock"
                for name in imported(node, module=module_name(path) or "tests", is_package=False)
            )
        ),
        "mocks",
    )


def test_nothing_is_left_unfinished() -> None:
    """What is to be done stands in an issue, not in the tree."""
    none_of(matching_lines(UNFINISHED), "unfinished business")


def test_prose_at_the_root_is_fixed() -> None:
    """Plans and reports do not pile up beside the four files that a reader needs."""
    prose = {path for path in files() if "/" not in path and path.endswith((".md", ".rst", ".txt", ".adoc"))}

    assert prose - {"constraints.txt"} == PROSE_AT_ROOT


def test_the_tree_knows_no_machine() -> None:
    """No file names a folder of the machine on which it was written."""
    none_of(matching_lines(MACHINE_PATH), "absolute paths of a machine")


def test_the_tree_knows_no_registry() -> None:
    """Where packages are installed from is the user's setting."""
    none_of(matching_lines(REGISTRY), "package registries")


def matching_lines(pattern: re.Pattern[str]) -> Iterator[str]:
    """`path:line` of every match in any text file of the project."""
    for path in files():
        for number, line in enumerate((text(path) or "").splitlines(), start=1):
            if pattern.search(line):
                yield f"{path}:{number} {line.strip()[:120]}"


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """String values of a module with their lines, docstrings left out, the parts of an f-string joined."""
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [each.value if isinstance(each, ast.Constant) else "x" for each in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


def test_sql_lives_in_sql_files() -> None:
    """Statements stand named and described in `.sql` files next to the engine that runs them."""
    none_of(
        (
            f"{path}:{line} {value.strip()[:80]!r}"
            for path in code(".py", below=(PACKAGES["millrace"],))
            for line, value in strings(parsed(path))
            if re.match(SQL.pattern, value, re.IGNORECASE | re.DOTALL)
        ),
        "SQL in Python",
    )
