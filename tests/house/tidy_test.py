"""Each house rule finds a tree that breaks it, and leaves a good tree alone."""
import subprocess
import sys
from pathlib import Path

import pytest

TIDY = Path(__file__).resolve().parents[2] / "scripts" / "tidy.py"
SLEEP = "sleep_" + "for"
MARK = "TO" + "DO"

GOOD = {
    "CMakeLists.txt": "add_library(x a.cc b.cc)\ninclude(tests/areas/x.cmake)\n",
    "tests/areas/x.cmake": "mmc_test(good_test SOURCES tests/unit/good_test.cc)\n",
    "common/base/a.h": "// A.\n#pragma once\nnamespace mmc {\nstruct A { int x_{1}; int F() { return 1; } };\n}\n",
    "common/base/a.cc": '#include "common/base/a.h"\n',
    "fabric/b.cc": '#include "common/base/a.h"\n',
    "tests/unit/good_test.cc": '#include "fabric/b.h"\nTEST(A, B) { EXPECT_TRUE(true); }\n',
}


def long_function(lines):
    return "namespace mmc {\nint F() {\n" + "  G();\n" * (lines - 2) + "}\n}\n"


def long_constructor(lines):
    return ("// L.\nnamespace mmc {\nclass L {\n public:\n  L() : a_{1}, b_(2) {\n" + "    G();\n" * (lines - 2) +
            "  }\n};\n}\n")


BAD = {
    "layer up": ("common/base/a.cc", '#include "fabric/b.h"\n', "layer: common may not include fabric/b.h"),
    "layer across": ("local_service/b.cc", '#include "meta_service/x.h"\n', "layer: local_service may not include"),
    "layer of the client": ("client_sdk/b.cc", '#include "client_sdk/embedded/e.h"\n', "layer: client_sdk may not"),
    "own header later": ("common/base/a.cc", '#include <string>\n#include "common/base/a.h"\n', "a.cc:1: own header"),
    "own header nowhere": ("common/base/a.cc", "int x;\n", "common/base/a.cc:1: own header: the first"),
    "product sees tests": ("fabric/b.cc", '#include "tests/unit/t.h"\n', "layer: product code includes"),
    "long file": ("fabric/b.cc", "\n" * 601, "length: 601 lines"),
    "long line": ("fabric/b.cc", "// " + "x" * 120 + "\n", "length: 123 columns"),
    "long function": ("fabric/b.cc", long_function(71), "fabric/b.cc:2: length: a function of 71 lines"),
    "long constructor": ("common/base/a.h", long_constructor(90), "length: a function of 90 lines"),
    "long test": ("tests/unit/good_test.cc", "TEST_F(A, B) {\n" + "  G();\n" * 70 + "}\n", "length: a function of 72"),
    "long python": ("scripts/x.py", "def f():\n" + "    g()\n" * 80, "scripts/x.py:1: length: a function of 81"),
    "test not listed": ("tests/unit/lost_test.cc", "TEST(A, B) {}\n", "tests/unit/lost_test.cc:1: listed"),
    "bench not listed": ("perf/lost_bench.cc", "int x;\n", "perf/lost_bench.cc:1: listed"),
    "e2e not listed": ("tests/e2e/test_lost.py", "x = 1\n", "tests/e2e/test_lost.py:1: listed"),
    "not a word of the loop": ("CMakeLists.txt", "add_library(x a.cc)\nforeach(n c d)\n f(${n}.cc)\nendforeach()\n",
                               "fabric/b.cc:1: listed"),
    "listed in a comment only": ("CMakeLists.txt", "add_library(x a.cc)  # b.cc\n", "fabric/b.cc:1: listed"),
    "sleep in a unit test": ("tests/unit/good_test.cc", f"void F() {{ {SLEEP}(1s); }}\n", "waits for an event"),
    "mark": ("fabric/b.cc", f"// {MARK}: more\n", "unfinished mark"),
    "machine path": ("docs/x.md", "see /" + "root/notes\n", "machine path"),
    "skip": ("tests/e2e/test_lost.py", "pytest." + "skip()\n", "never skipped"),
    "header without words": ("common/base/a.h", "#pragma once\n", "a header opens with a comment"),
    "blanks": ("fabric/b.cc", "int x; \n", "blanks at the end"),
    "no end": ("fabric/b.cc", "int x;", "no line break at the end"),
}

# Shapes that a careless brace scanner would take for a function, or lose count in.
NOT_A_FUNCTION = {
    "table": "namespace mmc {\nconst int kTable[] = {\n" + "  1,\n" * 100 + "};\n}\n",
    "enum": "namespace mmc {\nenum class E : int {\n" + "".join(f"  k{i},\n" for i in range(100)) + "};\n}\n",
    "class": "namespace mmc {\nclass C final : public D {\n" + "  int F() { return 1; }\n" * 100 + "};\n}\n",
    "derived class": "class T : public ::testing::Test {\n public:\n" + "  int F() { return 1; }\n" * 100 + "};\n",
    "template class": "template <typename T, int N = 3>\nstruct S {\n" + "  int F(int a = 3) { return a; }\n" * 90 +
                      "};\n",
    "braces in text": 'void F() { G("{", \'{\'); }  // {\n/* { */\n' + "int x;\n" * 90 + 'auto t = R"({)";\n',
}


def run(root):
    return subprocess.run([sys.executable, str(TIDY), "--root", str(root)], capture_output=True, text=True,
                          timeout=60, check=False)


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_a_good_tree_passes(tmp_path):
    write(tmp_path, GOOD)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout == "tidy: 0 finding(s)\n"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_tree_fails(tmp_path, name):
    path, text, expected = BAD[name]
    write(tmp_path, {**GOOD, path: text})
    done = run(tmp_path)
    assert done.returncode == 1
    assert expected in done.stdout, done.stdout


@pytest.mark.parametrize("name", NOT_A_FUNCTION)
def test_long_things_that_are_no_functions_pass(tmp_path, name):
    loop = "foreach(name b c)\n  mmc_test(x_${name} SOURCES fabric/${name}.cc)\nendforeach()\n"
    write(tmp_path, {**GOOD, "CMakeLists.txt": GOOD["CMakeLists.txt"].replace("b.cc", "") + loop,
                     "fabric/b.cc": NOT_A_FUNCTION[name]})
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout


def test_stale_generated_files_fail(tmp_path):
    write(tmp_path, {**GOOD, "scripts/gen": "#!/bin/sh\necho conf/x.conf differs\nexit 1\n"})
    (tmp_path / "scripts" / "gen").chmod(0o755)
    done = subprocess.run([sys.executable, str(TIDY), "--root", str(tmp_path), "--build-dir", "b"],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "conf/x.conf differs" in done.stdout
