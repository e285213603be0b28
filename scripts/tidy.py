#!/usr/bin/env python3
"""The house rules as a test: layers, lengths, listed files, banned words, fresh generated files.

    scripts/tidy.py [--root DIR] [--build-dir DIR] [--check-format]

Prints one line per finding ("path:line: rule: what is wrong") and exits 1 when there is any.
"""
import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 70
MAX_COLUMNS = 120

CODE_SUFFIXES = {".cc", ".h", ".c"}
SKIPPED_DIRS = {"build", ".git", "__pycache__", ".pytest_cache", ".cache"}
# docs/reference and conf/ are printed by the programs; tests/data holds files of users as they are.
GENERATED_DIRS = ("docs/reference/", "conf/", "tests/data/", "tests/fuzz/seeds/")

# Who may include whom (docs/ARCHITECTURE.md, "The tree"). tests and perf see everything, nothing sees them.
LAYERS = {
    "common": {"common", "proto"},
    "proto": {"common", "proto"},
    "fabric": {"common", "proto", "fabric"},
    "meta_service": {"common", "proto", "fabric", "meta_service"},
    "local_service": {"common", "proto", "fabric", "local_service"},
    "client_sdk": {"common", "proto", "fabric", "client_sdk"},
    "client_sdk/cli": {"common", "proto", "fabric", "client_sdk", "client_sdk/cli", "client_sdk/embedded"},
    "client_sdk/embedded": {
        "common", "proto", "fabric", "client_sdk", "client_sdk/embedded", "meta_service", "local_service"},
    "client_sdk/python": {
        "common", "proto", "fabric", "client_sdk", "client_sdk/embedded", "client_sdk/python", "meta_service",
        "local_service"},
}

# Words are put together here so that this file does not find itself.
BANNED_EVERYWHERE = {
    "unfinished mark": re.compile(r"\b(" + "TO" + "DO|FIX" + "ME|XX" + r"X)\b"),
    "dead code": re.compile(r"^\s*#\s*if\s+" + r"0\b"),
    "machine path": re.compile(r"(?<![\w.])/(" + "work|home|root|Users" + r")/"),
}
BANNED_IN_FAST_TESTS = re.compile(r"\b(" + "sleep_" + "for|sleep_" + r"until|usleep|nanosleep)\b")
BANNED_IN_E2E = re.compile(r"pytest\.(mark\.)?" + r"(skip|xfail)|unittest\." + "skip")


class Tree:
    """The files of the project, read once."""

    def __init__(self, root):
        self.root = root
        self.files = {}
        self._read(root)

    def _read(self, folder):
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                if path.name not in SKIPPED_DIRS:
                    self._read(path)
            elif path.is_file() and path.name not in SKIPPED_DIRS:  # .git is a file in a second working tree
                try:
                    self.files[path.relative_to(self.root).as_posix()] = path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    continue  # a binary seed

    def code(self):
        return {n: t for n, t in self.files.items() if Path(n).suffix in CODE_SUFFIXES}

    def hand_written(self):
        return {n: t for n, t in self.files.items() if not n.startswith(GENERATED_DIRS)}


def is_python(name, text):
    return name.endswith(".py") or text.startswith("#!/usr/bin/env python3")


def layer_of(name):
    parts = name.split("/")
    two = "/".join(parts[:2])
    if len(parts) > 2 and two in LAYERS:
        return two
    return parts[0] if parts[0] in LAYERS else None


def check_layers(tree):
    include = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]')
    for name, text in tree.code().items():
        layer = layer_of(name)
        if layer is None:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            match = include.match(line)
            if not match:
                continue
            target = match.group(1)
            if target.startswith("mmc/"):
                target = "client_sdk/include/" + target
            if target.split("/")[0] in ("tests", "perf"):
                yield f"{name}:{number}: layer: product code includes {target}"
                continue
            wanted = layer_of(target)
            if wanted is not None and wanted not in LAYERS[layer]:
                yield f"{name}:{number}: layer: {layer} may not include {target}"


def check_own_header(tree):
    """That a header compiles alone is shown by its own source, which includes it first; CMake tries the others."""
    for name, text in tree.code().items():
        header = name[:-len(".cc")] + ".h"
        if not name.endswith(".cc") or header not in tree.files:
            continue
        first = re.search(r'^\s*#\s*include\s+["<]([^">]+)[">]', text, re.M)
        if not first or first.group(1) != header:
            yield f"{name}:1: own header: the first that it includes is {header}"


def blank_out(text):
    """C++ with comments, literals and preprocessor lines replaced by spaces; line breaks stay."""
    pattern = re.compile(
        r'(?P<raw>R"(?P<tag>[^(\s]{0,16})\(.*?\)(?P=tag)")'
        r'|(?P<line>//[^\n]*)|(?P<block>/\*.*?\*/)'
        r'|(?P<string>"(?:\\.|[^"\\\n])*")|(?P<char>(?<![0-9A-Fa-f])\'(?:\\.|[^\'\\\n])+\')'
        r'|(?P<pre>^[ \t]*#(?:[^\n\\]|\\.|\\\n)*)', re.S | re.M)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def strip_template(head):
    while True:
        match = re.match(r"\s*template\s*<", head)
        if not match:
            return head.lstrip()
        depth, at = 1, match.end()
        while at < len(head) and depth:
            depth += {"<": 1, ">": -1}.get(head[at], 0)
            at += 1
        head = head[at:]


def block_kind(head):
    """What a '{' at namespace or class level opens: 'scope', 'data' or 'function'."""
    head = strip_template(head.strip())
    if re.match(r"(inline\s+)?namespace\b", head) or head == "extern":
        return "scope"
    if re.match(r"((typedef|static|constexpr|const|inline)\s+)*(class|struct|union|enum)\b", head):
        if not re.search(r"\)\s*(const|noexcept|override|final|\s)*$", head) or "capability" in head:
            return "data" if re.match(r"enum\b", head) else "scope"
    outside = re.sub(r"\([^()]*\)", "", head)
    if "operator" not in head and re.search(r"(?<![=!<>])=(?!=)", outside):
        return "data"
    return "function"


def cpp_functions(text):
    """(first line, last line) of every outermost function body."""
    clean = blank_out(text)
    scopes, head_start, head_line, line, inner = 0, 0, None, 1, 0
    start = None
    for at, char in enumerate(clean):
        if char == "\n":
            line += 1
            continue
        if inner:
            inner += {"{": 1, "}": -1}.get(char, 0)
            if inner == 0:
                if start is not None:
                    yield start, line
                head_start, head_line = at + 1, None
            continue
        if char == "{":
            kind = block_kind(clean[head_start:at])
            if kind == "scope":
                scopes += 1
            else:
                inner, start = 1, (head_line or line) if kind == "function" else None
            head_start, head_line = at + 1, None
        elif char in ";}":
            scopes -= char == "}"
            head_start, head_line = at + 1, None
        elif head_line is None and not char.isspace():
            head_line = line
        if char == ":" and clean[head_start:at].strip() in ("public", "private", "protected"):
            head_start, head_line = at + 1, None


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.end_lineno


def check_lengths(tree):
    for name, text in tree.hand_written().items():
        path = Path(name)
        python = is_python(name, text)
        is_code = path.suffix in CODE_SUFFIXES or path.suffix in (".cmake", ".proto") or python
        if not (is_code or path.name == "CMakeLists.txt" or name.startswith("scripts/")):
            continue
        lines = text.splitlines()
        if len(lines) > MAX_FILE_LINES:
            yield f"{name}:1: length: {len(lines)} lines, at most {MAX_FILE_LINES}; which two ideas does it hold?"
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_COLUMNS:
                yield f"{name}:{number}: length: {len(line)} columns, at most {MAX_COLUMNS}"
        functions = ()
        if path.suffix in CODE_SUFFIXES:
            functions = cpp_functions(text)
        elif python:
            functions = python_functions(text)
        for first, last in functions:
            if last - first + 1 > MAX_FUNCTION_LINES:
                yield (f"{name}:{first}: length: a function of {last - first + 1} lines, "
                       f"at most {MAX_FUNCTION_LINES}")


def check_listed(tree):
    """Every source is named in a CMake file: a test that nobody builds proves nothing."""
    cmake = [re.sub(r"#.*", "", t) for n, t in tree.files.items() if n.endswith((".cmake", "CMakeLists.txt"))]
    words = [(set(re.findall(r"[\w.]+", text)), set(re.findall(r"[\w.]*\$\{\w+\}[\w.]*", text))) for text in cmake]
    for name in tree.files:
        path = Path(name)
        if path.suffix in (".cc", ".c") or re.match(r"tests/(e2e|python|faults)/test_.*\.py$", name):
            wanted = path.stem if path.suffix == ".py" else path.name
            if not any(wanted in plain or in_a_loop(wanted, plain, patterns) for plain, patterns in words):
                yield f"{name}:1: listed: no CMake file names it, so nothing builds or runs it"


def in_a_loop(wanted, plain, patterns):
    """Whether a pattern such as meta_${name}_test.cc makes the name, with a word of the same CMake file."""
    for pattern in patterns:
        before, _, rest = pattern.partition("${")
        after = rest.partition("}")[2]
        if wanted.startswith(before) and wanted.endswith(after) and len(wanted) > len(before) + len(after):
            if after and wanted[len(before):len(wanted) - len(after)] in plain:
                return True
    return False


def check_words(tree):
    for name, text in tree.files.items():
        if name.startswith("tests/data/") or Path(name).name == "LICENSE":
            continue
        for number, line in enumerate(text.splitlines(), 1):
            for what, pattern in BANNED_EVERYWHERE.items():
                if pattern.search(line):
                    yield f"{name}:{number}: word: {what}: {line.strip()[:80]}"
            if name.startswith(("tests/unit/", "tests/contract/")) and BANNED_IN_FAST_TESTS.search(line):
                yield f"{name}:{number}: word: a test waits for an event, not for time: {line.strip()[:80]}"
            if name.startswith("tests/e2e/") and BANNED_IN_E2E.search(line):
                yield f"{name}:{number}: word: an end-to-end test is never skipped: {line.strip()[:80]}"


def check_shape(tree):
    for name, text in tree.hand_written().items():
        if Path(name).suffix not in CODE_SUFFIXES | {".py", ".proto", ".cmake"}:
            continue
        if name.endswith(".h") and not text.startswith(("//", "/*")):
            yield f"{name}:1: shape: a header opens with a comment that says what it is"
        if text and not text.endswith("\n"):
            yield f"{name}:{len(text.splitlines())}: shape: no line break at the end of the file"
        for number, line in enumerate(text.splitlines(), 1):
            if "\t" in line or line != line.rstrip():
                yield f"{name}:{number}: shape: tab or blanks at the end of the line"


def check_generated(tree, build_dir):
    gen = tree.root / "scripts" / "gen"
    if build_dir is None or not gen.is_file():
        return
    done = subprocess.run([str(gen), "--check", str(Path(build_dir).resolve())], capture_output=True, text=True,
                          timeout=300, check=False)
    if done.returncode != 0:
        text = (done.stdout + done.stderr).strip().replace("\n", " | ")
        yield f"scripts/gen:1: generated: files are stale, run scripts/gen: {text[:400]}"


def check_format(tree):
    names = [n for n in tree.code() if not n.startswith(GENERATED_DIRS)]
    done = subprocess.run(["clang-format-16", "--dry-run", "-Werror", *names], cwd=tree.root, capture_output=True,
                          text=True, timeout=300, check=False)
    for line in done.stderr.splitlines():
        if "clang-format-violations" in line:
            yield line.split(" error:")[0] + " format: run clang-format-16 -i on it"


def findings(root, build_dir=None, with_format=False):
    tree = Tree(Path(root).resolve())
    for check in (check_layers, check_own_header, check_lengths, check_listed, check_words, check_shape):
        yield from check(tree)
    yield from check_generated(tree, build_dir)
    if with_format:
        yield from check_format(tree)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--build-dir", help="a build folder with the programs: also check the generated files")
    parser.add_argument("--check-format", action="store_true", help="also run clang-format-16 over the C++ files")
    args = parser.parse_args()
    found = list(findings(args.root, args.build_dir, args.check_format))
    for line in found:
        print(line)
    print(f"tidy: {len(found)} finding(s)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
