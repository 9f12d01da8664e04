"""The style is a test: sizes, names, docstrings, locks, workflows, links and content files of this repository."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from checks.policy import Policy
from redline import content

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = ("redline", "checks", "reports", "flows")
FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 400
FILE_BYTES_MAX = 2_000_000
NAMES_THAT_SAY_NOTHING = {"common", "helpers", "manager", "misc", "tools", "util", "utils"}
LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-uv.lock",
    "redline/otava/requirements.lock",
)

# What may break a rule, with the reason.
MAY_PRINT = {
    **dict.fromkeys(
        (
            f"redline/cli/{name}.py"
            for name in (
                "__init__",
                "building",
                "datasets",
                "deploying",
                "instrument",
                "measuring",
                "method",
                "nights",
                "options",
                "reading",
            )
        ),
        "the command line is what prints",
    ),
    "flows/progress.py": "progress is printed as it happens",
}
MAY_BE_LONG = {"redline/model.py": "the nouns: one vocabulary, read as one page"}
MAY_SKIP = {
    "tests/sandbox/walls.py": "a machine may have no bubblewrap, or allow no user namespaces; "
    "no program of a stranger may be run there",
    "tests/deploy/test_process.py": "a memory cgroup takes rights that a container may not give to anybody",
    "tests/load/test_client.py": "a machine may have no IPv6 at all, and one of its tests is about nothing else",
}


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file of this repository, parsed."""

    path: Path
    lines: int
    tree: ast.Module

    @property
    def name(self) -> str:
        """Its path in the repository."""
        return self.path.relative_to(CHECKOUT).as_posix()


def parsed(*folders: str) -> tuple[Module, ...]:
    """Every Python file under the folders, the terse reference code excepted."""
    paths = [path for folder in folders for path in sorted((CHECKOUT / folder).rglob("*.py"))]
    texts = {path: path.read_text() for path in paths if "oracle" not in path.parts}
    return tuple(Module(path, text.count("\n"), ast.parse(text)) for path, text in texts.items())


PRODUCT = parsed(*PACKAGES)
SCRIPTS = parsed("models")
TESTS = parsed("tests")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones included."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def tracked() -> tuple[Path, ...]:
    """Every file that git tracks or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return tuple(path for name in listed.stdout.split("\0") if name and (path := CHECKOUT / name).is_file())


# --- code -----------------------------------------------------------------------------------------------------


def test_there_is_code_to_look_at():
    """The rules below look at every package: an empty list would keep them all."""
    for package in PACKAGES:
        assert any(module.name.startswith(f"{package}/") for module in PRODUCT)
    assert SCRIPTS
    assert TESTS


def test_functions_fit_a_screen():
    """No function is longer than 60 lines."""
    long = [
        f"{module.name}:{function.lineno} {function.name}: {lines} lines"
        for module in PRODUCT + SCRIPTS + TESTS
        for function in functions(module.tree)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_modules_hold_one_idea():
    """No module is longer than 400 lines."""
    long = [
        f"{module.name}: {module.lines} lines"
        for module in PRODUCT + SCRIPTS + TESTS
        if module.lines > MODULE_LINES_MAX and module.name not in MAY_BE_LONG
    ]
    assert long == []


def test_module_names_say_something():
    """No module is called utils, helpers, common, manager or the like."""
    named = [module.name for module in PRODUCT + SCRIPTS + TESTS if NAMES_THAT_SAY_NOTHING & set(module.path.parts)]
    named += [module.name for module in PRODUCT + SCRIPTS + TESTS if module.path.stem in NAMES_THAT_SAY_NOTHING]
    assert named == []


def test_no_module_hides_the_standard_library():
    """No module has the name of a standard one: Prefect puts flows/ on the path, and `import bisect` would break."""
    own = {"__main__"}
    named = [module.name for module in PRODUCT + SCRIPTS if module.path.stem in sys.stdlib_module_names - own]
    assert named == []


def test_public_things_say_what_they_are():
    """Every module, and every public function, method and class, has a docstring."""
    missing = []
    for module in PRODUCT + SCRIPTS:
        if ast.get_docstring(module.tree) is None and module.tree.body:
            missing.append(module.name)
        missing += [
            f"{module.name}:{node.lineno} {node.name}"
            for node in public_definitions(module.tree)
            if ast.get_docstring(node) is None
        ]
    assert missing == []


def public_definitions(
    tree: ast.Module | ast.ClassDef,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Public functions and classes of a module or class, and theirs, but not what is nested in a function."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            yield from public_definitions(node)


def test_tests_state_a_behaviour():
    """Every test has a docstring: one sentence on what holds."""
    missing = [
        f"{module.name}:{function.lineno} {function.name}"
        for module in TESTS
        for function in functions(module.tree)
        if function.name.startswith("test_") and not (ast.get_docstring(function) or "").strip()
    ]
    # `test_set` of the datasets is no test; a fake may have such names too.
    assert [entry for entry in missing if not entry.startswith("tests/fakes/")] == []


def test_only_the_command_line_prints():
    """No print() outside the command line and its progress."""
    printing = [
        f"{module.name}:{node.lineno}"
        for module in PRODUCT
        if module.name not in MAY_PRINT
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_no_test_leaves_itself_out():
    """No test skips itself: `--no-vllm` is the only way to leave tests out."""
    skipping = [
        f"{module.name}:{node.lineno}"
        for module in TESTS
        if module.name not in MAY_SKIP
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"skip", "skipif", "importorskip"}
        and isinstance(node.value, ast.Name | ast.Attribute)
        and ast.unparse(node.value) in {"pytest", "pytest.mark"}
    ]
    assert skipping == []


# --- files ------------------------------------------------------------------------------------------------------


def test_files_are_small():
    """No tracked file is over 2 MB."""
    large = {path.name: size for path in tracked() if (size := path.stat().st_size) > FILE_BYTES_MAX}
    assert large == {}


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_hashes_and_no_address(lock):
    """Every locked package has a version and hashes, and no line names an index, an address or a file."""
    text = (CHECKOUT / lock).read_text()
    assert "://" not in text
    entries = re.findall(r"^[^\s#].*(?:\n[ ]+.*)*", text, re.MULTILINE)
    assert entries
    for entry in entries:
        first = entry.splitlines()[0]
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ]+ ", first), first
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), first


def pins(lock: str) -> set[str]:
    """The `name==version` of a lock, with its markers."""
    return {line.removesuffix("\\").strip() for line in (CHECKOUT / lock).read_text().splitlines() if "==" in line}


def test_locks_agree():
    """Tests run what users run: the development lock holds the run-time lock whole, and that the bootstrap's uv."""
    assert pins("requirements.lock") <= pins("requirements-dev.lock")
    assert len(pins("requirements-uv.lock")) == 1
    assert pins("requirements-uv.lock") <= pins("requirements.lock")


CONTENT = {
    "scenarios/*.toml": content.scenario,
    "recipes/*.toml": content.recipe,
    "runners/*.toml": content.runner_class,
    "datasets/*.toml": content.dataset,
    "suites/*.toml": content.suite,
    "checks/policies/*.toml": lambda path: content.load(path, Policy),
    "baselines/*/*.json": content.read_baseline,
}


@pytest.mark.parametrize("pattern", CONTENT)
def test_content_files_load(pattern):
    """Every content file passes the validation that Redline itself applies."""
    paths = sorted(CHECKOUT.glob(pattern))
    assert paths or pattern.startswith("baselines"), f"no {pattern}"
    for path in paths:
        assert CONTENT[pattern](path) is not None


def test_content_files_name_each_other():
    """Every scenario's recipe and every runner class's policy exist."""
    for path in sorted((CHECKOUT / "scenarios").glob("*.toml")):
        assert (CHECKOUT / "recipes" / f"{content.scenario(path).recipe}.toml").exists(), path.name
    for path in sorted((CHECKOUT / "runners").glob("*.toml")):
        assert (CHECKOUT / "checks" / "policies" / f"{content.runner_class(path).policy}.toml").exists(), path.name


# --- workflows ----------------------------------------------------------------------------------------------------

WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_start_with_no_rights(path):
    """Every workflow takes away all rights first; a job asks for what it needs."""
    assert re.search(r"^permissions: \{\}$", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path):
    """Every action of somebody else is pinned by 40 hex digits and says which release that is."""
    for used in re.findall(r"^\s*(?:- )?uses:\s*(.+)$", path.read_text(), re.MULTILINE):
        assert used.startswith("./") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", used), used


def test_there_is_a_workflow():
    """The two rules above have something to look at."""
    assert WORKFLOWS


# --- documents ------------------------------------------------------------------------------------------------------

DOCUMENTS = [CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += sorted((CHECKOUT / "docs").rglob("*.md"))
DECISIONS = sorted((CHECKOUT / "docs" / "decisions").glob("*.md"))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_resolve(path):
    """Every relative link of a document leads to a file of this repository, and its anchor to a heading there."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f"{path.name}: {target}"
        assert not anchor or found.suffix != ".md" or anchor in anchors(found), f"{path.name}: {target}"


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_decisions_name_what_lost(path):
    """Every decision record is numbered, and says what was decided, why, and which alternative lost."""
    text = path.read_text()
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", path.name)
    assert text.startswith(f"# {path.name[:4]}"), "the title starts with the number"
    assert re.search(r"\b(lost|alternatives?|instead of|weighed)\b", text, re.IGNORECASE)


def test_decisions_are_numbered_once():
    """No two decision records share a number."""
    numbers = [path.name[:4] for path in DECISIONS]
    assert numbers
    assert len(set(numbers)) == len(numbers)


def test_nothing_names_a_machine():
    """No tracked text names a package registry's host or a path of one person's machine."""
    hosts = "|".join(("py" + "pi\\.org", "python" + "hosted", "registry\\.npm" + "js", "deb\\.deb" + "ian"))
    pattern = re.compile(rf"({hosts})|(^|[^a-zA-Z0-9.])/(work|farm|home/[a-z]+)/[a-z.]")
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.name}: {match.group(0)}" for match in pattern.finditer(text)]
    assert found == []
