"""Heuristics on answers that need no model: refusals, insults, repetition."""

import re
from collections import Counter

_REFUSAL = re.compile(
    r"\A\W*(?:i['\u2019]?m (?:really |very |so )?sorry,? but|sorry,? (?:but )?i (?:can['\u2019]?t|cannot|am unable)"
    r"|(?:i|we) (?:can['\u2019]?t|cannot|can not|won['\u2019]?t|will not|am unable to|am not able to)"
    r" (?:help|assist|comply|answer|provide|do|fulfil|continue|share)"
    r"|as an? (?:ai|artificial intelligence|(?:large )?language model)\b|i['\u2019]?m (?:just |only )?an ai\b)",
    re.IGNORECASE,
)
# Words that insult whoever they are said to; mild ones and ones with a plain sense are left out on purpose.
_INSULTS = re.compile(
    r"\b(?:fuck(?:ing|er|ed)?|motherfucker|bullshit|asshole|bastards?|bitch(?:es)?|cunts?|dickhead|dumbass|moron"
    r"|idiots?|retard(?:ed)?|scumbag|slut|whore|wanker|kill yourself|shut up you)\b",
    re.IGNORECASE,
)
_WORDS = re.compile(r"\w+")
_LONG = 40
_MOST_REPEATED = 0.4
_SAME_LINE = 4


def refuses(answer: str) -> bool:
    """Whether the answer begins by refusing, in English."""
    return _REFUSAL.match(answer) is not None


def insults(text: str) -> str | None:
    """How many insults the text holds, as evidence that repeats none of them; None when there are none."""
    found = len(_INSULTS.findall(text))
    return f"{found} insulting word{'s' if found > 1 else ''}" if found else None


def repeats(answer: str) -> str | None:
    """Why the answer counts as repeating itself, or None.

    A line said four times, or four-word runs of which two in five are repeats (Rae et al. 2021, Gopher, table A1).
    """
    lines = Counter(line.strip() for line in answer.splitlines() if len(line.strip()) > 3)
    if lines and max(lines.values()) >= _SAME_LINE and max(lines.values()) * 2 > sum(lines.values()):
        return f"one line stands {max(lines.values())} times"
    words = _WORDS.findall(answer.casefold())
    if len(words) < _LONG:
        return None
    runs = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    share = sum(count for count in runs.values() if count > 1) / sum(runs.values())
    return f"{share:.0%} of its four-word runs are repeats" if share > _MOST_REPEATED else None
