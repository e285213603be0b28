"""The pages for clients: settings that parse, flags and keys that are known, links that lead somewhere."""
import json
import logging
import re
import shlex
from pathlib import Path

import pytest
from memcache_hybrid import _conf_file
from mmc_compat import codes
from mooncake import _flags, master

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [*sorted((DOCS / "clients").glob("*.md")), DOCS / "compat_memcache.md", DOCS / "compat_mooncake.md"]
MISSPELT = ("mooncacke", "tansfer", "mooncacketore", "enable_mal_worker")
COMMANDS = {"mooncake_master", "mmc_meta_service", "mmc_local_service", "lmcache", "vllm", "python", "pip", "export"}


def snippets(page):
    """[(kind, text)] of the blocks of a page."""
    found = []
    for text in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        kinds = {"{": "json", '"': "member", "ock.": "conf", "chunk_size": "yaml"}
        found.append((next((kind for begin, kind in kinds.items() if text.startswith(begin)), "shell"), text))
    return found


def commands(text):
    """The words of each command line, without its settings of the environment and redirections."""
    for line in text.replace("\\\n", " ").split("\n") if "'" not in text else [text.replace("\\\n", " ")]:
        one = []
        for word in [*shlex.split(re.sub(r"&> \S+", "", line), comments=True), "&"]:
            if word != "&":
                one.append(word)
                continue
            while one and re.match(r"[A-Z_]+=", one[0]):
                one.pop(0)
            if one:
                yield one
            one = []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_code_of_memcache_is_in_its_table():
    said = set(re.findall(r"-\d+", "".join(line.split("|")[1] for line in (DOCS / "compat_memcache.md").read_text(
        encoding="utf-8").splitlines() if line.startswith("| -"))))
    assert {str(row[2]) for row in codes._TABLE if row[2] < 0} <= said


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=lambda page: page.name)
def test_snippets(page, tmp_path, caplog):
    for kind, text in snippets(page):
        assert not any(word in text for word in MISSPELT), text
        if kind in ("json", "member"):
            json.loads(text if kind == "json" else "{" + text + "}")
        elif kind == "yaml":
            remote, lookup = (re.search(rf'^{name}: "mooncakestore://(.*)"$', text, re.MULTILINE)[1]
                              for name in ("remote_url", "external_lookup_client"))
            assert remote == lookup
        elif kind == "conf":
            path = tmp_path / "a.conf"
            path.write_text(text, encoding="utf-8")
            if "hcom_url" in text:
                with caplog.at_level(logging.WARNING, "memcache_hybrid"):
                    _conf_file.LocalSettings(_conf_file.read_conf(str(path)))
                assert caplog.text == ""
            else:
                assert _conf_file.MetaSettings(str(path)).warnings == []
        else:
            for settings in re.findall(r"'(\{.*?\})'", text, re.DOTALL):
                json.loads(settings)
            for words in commands(text):
                assert words[0] in COMMANDS, words
                if words[0] == "mooncake_master":
                    master.meta_options({**master.FLAGS, **_flags.parse(words[1:], master.FLAGS)})
