"""What a regular expression says about the keys it can match, so that not all of them have to be looked at."""
import re

_META = frozenset("\\.^$|?*+()[]{}")


def _literal(text):
    """(the literal text at the start, whether that is all of it)."""
    out = []
    at = 0
    while at < len(text):
        char = text[at]
        step = 1
        if char == "\\":
            if at + 1 == len(text) or text[at + 1].isalnum():
                break
            char = text[at + 1]
            step = 2
        elif char in _META:
            break
        if text[at + step:at + step + 1] in ("?", "*", "+", "{"):  # the character may be missing or come again
            break
        out.append(char)
        at += step
    return "".join(out), at == len(text)


def candidates(pattern):
    """(keys, prefix): when `keys` is not None the pattern matches none but these; all matches begin with `prefix`."""
    if not pattern.startswith("^"):
        return None, ""
    group = re.fullmatch(r"\^\(\?:(.*)\)\$", pattern, re.DOTALL)
    body = group.group(1) if group else pattern[1:].removesuffix("$")
    if group or "|" not in body:
        parts = [_literal(part) for part in re.split(r"(?<!\\)\|", body)]
        if all(whole for _, whole in parts) and pattern.endswith("$"):
            return [text for text, _ in parts], ""
        if "|" not in body:
            return None, parts[0][0]
    return None, ""
