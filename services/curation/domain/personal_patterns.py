"""Patterns of personal data, by kind, and what must hold beside the pattern: checksums, calendars, labels."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from services.curation.domain import personal_checks as checks

_HEX = "[0-9A-Fa-f]"
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]*\\.?"
_DATE = (
    r"(?<![\w/.-])(?:(?:19|20)\d\d-\d{1,2}-\d{1,2}(?:[T ]\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?Z?)?"
    r"|\d{1,2}[/.-]\d{1,2}[/.-](?:19|20)\d\d"
    rf"|\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH},? (?:19|20)\d\d|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d\d)"
    r"(?![\w/-])"
)
_STATES = "A[AEKLPRZ]|C[AOT]|D[CE]|FL|GA|I[AL]|K[SY]|LA|M[ADINOST]|N[CDEHJMVY]|P[AR]|RI|S[CD]|T[NX]|UT|V[AIT]|W[AIVY]"
# Words too: they name a state only after a town and a comma, and `ID` not even there.
_STATES_AND_WORDS = f"{_STATES}|HI|IN|ME|O[HKR]"
# Where a door within a house is named, what ends a line soon after, with no sentence between, is the code of the place.
_DOOR = r"\b(?:apt|apartment|suite|ste|unit|flat|p\.? ?o\.? box)\.?\s*\d+\b"
# No two runs of blanks side by side: a long run would be parted in every way there is.
_NUMBERED = r"(?:\s*(?:number|no\.?|nr\.?|#))?\s*(?:(?:is|was|:|=|#)\s*)?"
# Printed forms of telephone numbers that need no word beside them.
_PHONE = (
    r"(?<![\w.@+-])(?:\+\d{1,3}[ .-]?(?:\(0?\d{0,4}\)[ .-]?)?\d{1,5}(?:[ ./-]?\d{2,6}){1,5}"
    r"|\(\d{2,5}\)[ .-]?\d{3,4}(?:[ .-]?\d{2,5}){0,2}"
    r"|(?:1[ .-])?\d{3}[ .-]\d{3}[ .-]\d{4}"
    r"|00\d{1,3}[ .-]\d{1,5}(?:[ .-]?\d{2,6}){1,4}"
    r"|0\d{1,4}[ /-]\d{3,4}(?:[ -]?\d{2,5}){1,2}"
    r"|\d{2,5}(?:[ .-]\d{2,4}){2,4})(?:\s?(?:x|ext\.?)\s?\d{1,5})?(?![\w+]|[.-]\d)"
)
# Beside a word such as `call` or `fax`, seven digits in any grouping are one.
_LOOSE = r"\+?\(?\d[\d ().-]{5,17}\d(?:\s?(?:x|ext\.?)\s?\d{1,5})?(?![\w+])"
_PHONE_BEFORE = (
    r"(?:phone|mobile|cell|desk|fax|tel|telephone|whatsapp|call(?:ed)? (?:me )?(?:on|at)|reach(?:ed)? (?:me )?(?:on|at)"
    r"|answering at|messages? to|ring (?:me )?(?:on|at)|text me (?:on|at)|my registered|dial)" + _NUMBERED
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One way a kind appears: what matches (group `value` where only a part is meant), what must hold of it, and a
    simpler expression that every text with a match contains (for a first look at many texts).
    """

    kind: str
    expression: re.Pattern[str]
    screen: str
    valid: Callable[[str], bool] = checks.anything
    trim: Callable[[str], int | None] | None = None
    """How much of a match is the value, where it may run into what follows."""


def _pattern(
    kind: str,
    expression: str,
    screen: str,
    valid: Callable[[str], bool] = checks.anything,
    trim: Callable[[str], int | None] | None = None,
) -> Pattern:
    return Pattern(kind, re.compile(expression), screen, valid, trim)


PATTERNS: tuple[Pattern, ...] = (
    _pattern("credential", r"(?<=://)(?P<value>[^\s:/@]{1,64}:[^\s/@]{1,128})(?=@)", r"://[^\s:/@]+:[^\s/@]+@"),
    _pattern(
        "credential",
        r"\b(?:sk-(?:proj-|ant-)?[\w-]{16,}|gh[pousr]_\w{30,}|github_pat_\w{22,}|glpat-[\w-]{20,}|xox[abeprs]-[\w-]{10,}"
        r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{35}|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|[rs]k_(?:live|test)_\w{16,}"
        r"|SG\.[\w-]{16,}\.[\w-]{16,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,})",
        r"sk-|gh[pousr]_|github_pat_|glpat-|xox|AKIA|ASIA|AIza|hf_|npm_|_live_|_test_|SG\.|eyJ",
    ),
    _pattern(
        "credential",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]{1,8000}?-----END [A-Z ]*PRIVATE KEY-----",
        r"PRIVATE KEY-----",
    ),
    _pattern(
        "credential",
        r"(?i)\b(?:api[_ -]?key|access[_ -]?(?:key|token)|auth[_ -]?token|secret(?:[_ -]?key)?|password|passwd|pwd"
        r"|passphrase|bearer)\b[\"']?(?:\s*[:=]\s*|\s+is:?\s+|(?<=earer)\s+)[\"']?(?P<value>[^\s\"'<>,;]{4,200})",
        r"(?i)key|token|secret|pass|pwd|bearer",
        checks.secret,
    ),
    _pattern(
        "email",
        r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w-])",
        r"@",
    ),
    _pattern(
        "url",
        r"(?:(?:https?|ftps?|wss?)://|(?<![\w@./-])www\.)[^\s<>\"'\\^`{|}]{2,2000}",
        r"://|www\.",
        trim=checks.url_end,
    ),
    _pattern(
        "iban",
        r"(?i)\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?\b",
        r"(?i)[A-Z]{2}\d{2} ?[A-Z0-9]{4}",
        trim=checks.iban_end,
    ),
    _pattern(
        "card", r"(?<![\w-])(?:[2-6]\d{3}|1800)(?:[ -]?\d){8,15}(?![\w-])", r"\d(?:[ -]?\d){11}", valid=checks.card
    ),
    _pattern(
        "card",
        r"(?i)\b(?:card|cc|visa|mastercard|maestro|amex)\b[^\d\n]{0,24}(?P<value>\d(?:[ -]?\d){11,18})(?![\w-])",
        r"\d(?:[ -]?\d){11}",
        checks.luhn,
    ),
    _pattern("ssn", r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])", r"\d{3}-\d{2}-\d{4}", checks.ssn),
    _pattern(
        "ssn",
        rf"(?i)\b(?:ssn|social security){_NUMBERED}(?P<value>\d{{3}}[ -]?\d{{2}}[ -]?\d{{4}})(?![\w-])",
        r"(?i)ssn|social security",
        checks.ssn,
    ),
    _pattern(
        "licence",
        r"(?i)\b(?:driv(?:er|ing)(?:'?s)? licen[cs]e|passport|licen[cs]e plate|national id|tax id|nino)"
        rf"{_NUMBERED}(?P<value>[A-Z0-9][A-Z0-9-]{{4,19}})(?![\w-])",
        r"(?i)licen[cs]e|passport|national id|tax id|nino",
        checks.identifier,
    ),
    _pattern(
        "ip",
        r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)|(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])",
        rf"\d\.\d+\.\d|:{_HEX}*:",
        checks.address,
    ),
    _pattern(
        "birth_date",
        rf"(?i)\b(?:born(?: on)?|date of birth|birth ?da(?:te|y)|dob)\b[^\d\n]{{0,24}}?(?P<value>{_DATE})",
        r"(?i)born|birth|dob",
        checks.date,
    ),
    _pattern("date", rf"(?i){_DATE}", r"(?:19|20)\d\d", checks.date),
    _pattern(
        "postcode",
        rf"(?i)\b(?:zip(?:[ -]?code)?|post(?:al)?[ -]?code|plz){_NUMBERED}"
        r"(?P<value>\d{3}(?:[ -]?\d{1,3}){0,3}(?:[ ][A-Z]{2}\b)?|[A-Z]{1,2}\d[A-Z\d]?[ ]?\d[A-Z]{0,2}\d?)(?![\w-])",
        r"(?i)zip|post|plz",
    ),
    _pattern(
        "postcode",
        r"\b(?:[ABCEGHJ-NPRSTVXY]\d[A-Z][ ]\d[A-Z]\d"
        r"|(?:GIR 0AA|[A-PR-UWYZ][A-HK-Y]?\d[\dA-HJKP-UW]?[ ]\d[ABD-HJLNP-UW-Z]{2}))\b",
        r"[A-Z]\d[\dA-Z]? \d[A-Z]",
    ),
    _pattern(
        "postcode",
        rf"\b[A-Z][a-z]+(?:, ?(?:{_STATES_AND_WORDS})|,? (?:{_STATES}))[ ]+(?P<value>\d{{5}}(?:-\d{{4}})?)(?![\w-])",
        r"[A-Z]{2} +\d{5}",
    ),
    _pattern(
        "postcode",
        rf"(?i){_DOOR}[^.?!]{{0,70}}?\n[ \t]{{0,12}}(?-i:[A-ZÀ-ÖØ-Þ])[^\d\n.?!]{{1,40}}(?:\n[^\d\n.?!]{{0,24}})?"
        r"\s{1,12}(?P<value>\d{3,6}|\d{2,4}[- ]\d{2,4})[ ]*(?=\n|$)",
        r"(?i)(?:apt|apartment|suite|ste|unit|flat|box)\.?\s*\d+",
    ),
    _pattern("phone", rf"(?i)\b{_PHONE_BEFORE}(?P<value>{_LOOSE})", r"(?:\d\D{0,3}){7}", checks.phone),
    _pattern(
        "phone",
        rf"(?i)(?<![\w+(])(?P<value>{_LOOSE[:-9]})(?=[ -]?\(?(?:office|fax|mobile|desk|cell|phone|home|work)\b)",
        r"(?:\d\D{0,3}){7}",
        checks.phone,
    ),
    _pattern("phone", rf"(?i){_PHONE}", r"(?:\d\D{0,3}){7}", checks.phone),
    _pattern(
        "age",
        r"(?i)\b(?:turn(?:ed|s|ing)?|aged?(?: of)?:?|when (?:he|she|i|they) w(?:as|ere)|i(?:'|\u2019| a)?m)[ ]"
        r"(?P<value>\d{1,3})(?![\w%-]|[.,:/]\d| (?:percent|minutes?|hours?|days?|weeks?|months?|times|km|miles)\b)",
        r"(?i)(?:turn|age|was|were|m)",
        checks.age,
    ),
    _pattern(
        "age", r"(?i)(?<![\w.,-])(?P<value>\d{1,3})(?=[ -]?(?:years?[ -]old|y/?o\b|yrs? old))", r"(?i)y", checks.age
    ),
    _pattern("title", r"\b(?:Mrs?|Ms|Dr|Prof|Mx)\.(?=\s+[^\W\d_a-z])", r"M[rsx]|Dr|Prof"),
    _pattern(
        "title",
        r"\b(?:mrs?|ms|dr|prof|mx)\.(?=\s+[a-z])|\b(?:Mrs?|Ms|Prof|Mx|Miss|Sir|Madam)(?=\s+[A-Z][a-z])",
        r"(?i)m[rsxia]|dr|prof|sir",
    ),
    _pattern(
        "date",
        r"(?i)(?:\b(?:in|since|during|of|by|a|until|before|after)[ ])(?P<value>(?:19|20)\d\d)(?![\w-]|[.,:/]\d)",
        r"(?:19|20)\d\d",
    ),
    _pattern("date", r"\b(?i:mon|tues|wednes|thurs|fri|satur|sun)day\b", r"(?i)day"),
)
"""In order of search: what one has taken the next cannot take apart."""
