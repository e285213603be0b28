"""Command lines of the form -flag value, --flag=value, --flag, --noflag; and files of the same flags."""
import json
import math
import os
import sys

import pymmc


class FlagError(ValueError):
    """A flag that is not known, or a value that it does not take."""


_YES = {"1", "t", "true", "y", "yes"}
_NO = {"0", "f", "false", "n", "no"}

# Of the logging library the scripts of users give these to every command.
LOGGING = {"v": 0, "log_dir": "", "logtostderr": False, "alsologtostderr": False, "colorlogtostderr": False,
           "logtostdout": False, "colorlogtostdout": False, "minloglevel": 0, "stderrthreshold": 2,
           "max_log_size": 1800, "vmodule": "", "logbufsecs": 30, "logbuflevel": 0, "log_prefix": True, "log_link": "",
           "log_utc_time": False, "log_year_in_prefix": True, "log_backtrace_at": "", "logfile_mode": 436,
           "logemaillevel": 999, "logmailer": "", "alsologtoemail": "", "drop_log_memory": True,
           "symbolize_stacktrace": True, "stop_logging_if_full_disk": False, "timestamp_in_logfile_name": True,
           "logcleansecs": 300}
_MAY_BE_NEGATIVE = ("v", "logbuflevel")
_HELP = ("help", "helpfull", "helpshort")


def convert(name, value, default):
    """A value of the type of the default. FlagError."""
    if isinstance(default, bool):
        text = str(value).lower()
        if text not in _YES | _NO:
            raise FlagError(f"flag '{name}' is true or false, not '{value}'")
        return text in _YES
    if isinstance(default, (int, float)):
        try:
            number = type(default)(value)
            finite = math.isfinite(number)
        except (TypeError, ValueError, OverflowError):
            raise FlagError(f"flag '{name}' is a number, not '{value}'") from None
        if not finite or (number < 0 and name not in _MAY_BE_NEGATIVE):
            raise FlagError(f"flag '{name}' is a number of 0 or more, not '{value}'")
        return number
    if isinstance(value, (dict, list)):
        raise FlagError(f"flag '{name}' is text, not {value!r}")
    return str(value)


def port(text):
    """Of a command line. ValueError."""
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError
    return int(text)


def check_ports(flags, names):
    for name in names:
        if flags[name] > 65535:
            raise FlagError(f"flag '{name}' is a port of 0 to 65535, not '{flags[name]}'")


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
                if rest and rest[0] == "true":  # is taken, as programs do that pass over what is no flag
                    rest.pop(0)
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
        except (ValueError, RecursionError) as error:
            raise FlagError(f"{path}: {error}") from None
        if not isinstance(values, dict):
            raise FlagError(f"{path}: not a JSON object")
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
    if any(word.startswith("-") and word.lstrip("-") in _HELP for word in argv):
        print(help_text(program, defaults))
        return 0
    if any(word.startswith("-") and word.lstrip("-") == "version" for word in argv):
        print(f"{program} of mmc {pymmc.__version__}")
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
