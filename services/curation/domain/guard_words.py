"""Words that carry a critical difference: quantities, dates, measures and money, negations, opposites."""

from collections.abc import Mapping

from services.curation.domain.guard_measures import DATES, UNITS
from services.curation.domain.guard_opposites import OPPOSITES

NUMBERS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14",
    "fifteen": "15", "sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19", "twenty": "20",
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
    "hundred": "100", "thousand": "1000", "million": "1000000", "billion": "1000000000", "first": "1st",
    "second": "2nd", "third": "3rd", "fourth": "4th", "fifth": "5th", "half": "1/2", "double": "2x", "twice": "2x",
    "triple": "3x", "thrice": "3x", "quarter": "1/4", "dozen": "12", "everyone": "all", "everybody": "all",
    "all": "all", "every": "all", "only": "only", "eins": "1", "zwei": "2", "drei": "3", "vier": "4", "fünf": "5",
    "sechs": "6", "sieben": "7", "acht": "8", "neun": "9", "zehn": "10", "elf": "11", "zwölf": "12", "zwanzig": "20",
    "hundert": "100", "tausend": "1000", "deux": "2", "trois": "3", "quatre": "4", "cinq": "5",
    "huit": "8", "dix": "10", "onze": "11", "douze": "12", "vingt": "20", "mille": "1000", "dos": "2", "tres": "3",
    "cuatro": "4", "cinco": "5", "seis": "6", "siete": "7", "ocho": "8", "nueve": "9", "diez": "10", "veinte": "20",
    "cien": "100", "mil": "1000", "tre": "3", "quattro": "4", "cinque": "5", "sette": "7", "otto": "8", "nove": "9",
    "dieci": "10", "dois": "2", "três": "3", "quatro": "4", "sete": "7", "oito": "8", "dez": "10", "twee": "2",
    "vijf": "5", "zes": "6", "zeven": "7", "negen": "9", "tien": "10", "二": "2", "两": "2", "三": "3", "四": "4",
    "五": "5", "六": "6", "七": "7", "八": "8", "九": "9", "十": "10",
}  # fmt: skip
"""What a quantity stands for, so that `two` and `2` are the same number."""

NEGATIONS = frozenset(
    (
        "not", "no", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "cannot", "without", "unable",
        "hardly", "cant", "wont", "dont", "doesnt", "didnt", "isnt", "arent", "wasnt", "werent", "havent", "hasnt",
        "hadnt", "shouldnt", "wouldnt", "couldnt", "mustnt", "mightnt", "neednt", "aint", "shant", "can't", "won't",
        "don't", "doesn't", "didn't", "isn't", "aren't", "wasn't", "weren't", "haven't", "hasn't", "hadn't",
        "shouldn't", "wouldn't", "couldn't", "mustn't", "mightn't", "needn't", "ain't", "shan't",
        "nicht", "nichts", "niemand", "kein", "keine", "keinen", "keinem", "keiner", "keines", "nie", "niemals",
        "ohne", "pas", "rien", "jamais", "sans", "aucun", "aucune", "non", "nunca", "nada", "nadie", "sin", "ninguno",
        "ninguna", "não", "sem", "senza", "niente", "nessuno", "nessuna", "mai", "niet", "niets", "geen", "nooit",
        "zonder", "不", "没", "無", "未", "非", "别",
    )
)  # fmt: skip
"""All of them say the same: not. `do not` and `don't` are no difference."""

MARKS: Mapping[str, str] = {**NUMBERS, **DATES, **UNITS, **OPPOSITES, **dict.fromkeys(NEGATIONS, "not")}
"""What each of them stands for: texts in which these differ say different things."""
