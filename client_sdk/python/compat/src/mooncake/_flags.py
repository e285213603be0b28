"""Command lines of the form -flag value, --flag=value, --flag, --noflag; and files of the same flags."""
import json
import os
import sys


class FlagError(ValueError):
    """A flag that is not known, or a value that it does not take."""


_YES = {"1", "t", "true", "y", "yes"}
_NO = {"0", "f", "false", "n", "no"}

# Of the logging library the scripts of users give these to every command.
LOGGING = {"v": 0, "log_dir": "", "logtostderr": False, "alsologtostderr": False, "colorlogtostderr": False,
           "logtostdout": False, "minloglevel": 0, "stderrthreshold": 2, "max_log_size": 1800, "vmodule": "",
           "logbufsecs": 30, "logbuflevel": 0, "log_prefix": True, "log_link": "", "log_utc_time": False,
           "stop_logging_if_full_disk": False, "timestamp_in_logfile_name": True}


def convert(name, value, default):
    """A value of the type of the default. FlagError."""
    if isinstance(default, bool):
        text = str(value).lower()
        if text not in _YES | _NO:
            raise FlagError(f"flag '{name}' is true or false, not '{value}'")
        return text in _YES
    if isinstance(default, (int, float)):
        try:
            return type(default)(value)
        except (TypeError, ValueError):
            raise FlagError(f"flag '{name}' is a number, not '{value}'") from None
    return str(value)


def parse(argv, defaults):
    """{flag: value} of what is given. FlagError names what is wrong."""
    given = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word in ("-", "--"):
            raise FlagError(f"'{word}' is no flag")
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if name not in defaults and name.startswith("no") and isinstance(defaults.get(name[2:]), bool) and not equals:
            given[name[2:]] = False
            continue
        if name not in defaults:
            raise FlagError(f"unknown command line flag '{name}'")
        if not equals:
            if isinstance(defaults[name], bool):
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise FlagError(f"flag '{name}' needs a value")
        given[name] = convert(name, value, defaults[name])
    return given


def from_file(path, defaults, names=None):
    """The same of a JSON file, or one of `name: value` lines. `names`: other names that stand for flags."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if os.path.splitext(path)[1] == ".json":
        try:
            values = json.loads(text)
        except ValueError as error:
            raise FlagError(f"{path}: {error}") from None
    else:
        lines = (line.split(" #")[0].strip() for line in text.splitlines())
        pairs = (line.partition(":") for line in lines if line and not line.startswith(("#", "---")))
        values = {name.strip(): value.strip().strip("'\"") for name, _, value in pairs}
    given = {}
    for name, value in values.items():
        name = (names or {}).get(name, name)
        if name not in defaults:
            raise FlagError(f"{path}: unknown flag '{name}'")
        given[name] = convert(name, value, defaults[name])
    return given


def milliseconds(name, text):
    """Of 5000, "5000ms", "5s", "1m", "1h"."""
    units = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
    text = str(text).strip()
    number = text.rstrip("mshMSH")
    unit = text[len(number):].lower() or "ms"
    if not number.isdecimal() or unit not in units:
        raise FlagError(f"flag '{name}' is a time like 5000, 500ms or 5s, not '{text}'")
    return int(number) * units[unit]


def help_text(program, defaults):
    rows = [f"  --{name}={default}" for name, default in defaults.items()]
    return "\n".join([f"{program} [--flag value | --flag=value] ...", *rows])


def run(program, defaults, argv, check, body, file_names=None):
    """A command from its command line to its exit code: body(flags). `check(flags)` raises ValueError or OSError for
    values that cannot be. `file_names`: as `names` of from_file(), for a command with a flag config_path."""
    argv = sys.argv[1:] if argv is None else argv
    if any(word.lstrip("-") == "help" for word in argv):
        print(help_text(program, defaults))
        return 0
    try:
        given = parse(argv, defaults)
        in_file = from_file(given["config_path"], defaults, file_names) if given.get("config_path") else {}
        flags = {**defaults, **in_file, **given}
        check(flags)
    except (ValueError, OSError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return body(flags)
