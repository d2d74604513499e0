"""Words that carry a critical difference: quantities, negations, and one side of each pair of opposites."""

NUMBERS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14",
    "fifteen": "15", "sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19", "twenty": "20",
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
    "hundred": "100", "thousand": "1000", "million": "1000000", "billion": "1000000000", "first": "1st",
    "second": "2nd", "third": "3rd", "fourth": "4th", "fifth": "5th", "half": "1/2", "double": "2x", "twice": "2x",
    "triple": "3x", "thrice": "3x", "quarter": "1/4", "dozen": "12", "everyone": "all", "everybody": "all",
    "all": "all", "every": "all", "only": "only", "eins": "1", "zwei": "2", "drei": "3", "deux": "2", "trois": "3",
    "dos": "2", "tres": "3",
}  # fmt: skip
"""What a quantity stands for, so that `two` and `2` are the same number."""

NEGATIONS = frozenset(
    (
        "not", "no", "never", "none", "nobody", "nothing", "nowhere", "neither", "nor", "cannot", "without", "unable",
        "hardly", "cant", "wont", "dont", "doesnt", "didnt", "isnt", "arent", "wasnt", "werent", "havent", "hasnt",
        "hadnt", "shouldnt", "wouldnt", "couldnt", "mustnt", "mightnt", "neednt", "aint", "shant", "can't", "won't",
        "don't", "doesn't", "didn't", "isn't", "aren't", "wasn't", "weren't", "haven't", "hasn't", "hadn't",
        "shouldn't", "wouldn't", "couldn't", "mustn't", "mightn't", "needn't", "ain't", "shan't",
        "nicht", "kein", "keine", "keinen", "keiner", "nie", "niemals", "ohne", "pas", "jamais", "sans", "aucun",
        "aucune", "nunca", "sin", "ninguno", "ninguna", "não", "sem", "senza", "mai", "niet", "geen", "nooit",
        "zonder", "不", "没", "無", "未", "非", "别",
    )
)  # fmt: skip
"""All of them say the same: not. `do not` and `don't` are no difference."""

OPPOSITES = frozenset(
    (
        "off", "disable", "disabled", "disabling", "disables", "deactivate", "deactivated", "deactivating", "inactive",
        "before", "after", "decrease", "decreased", "decreasing", "reduce", "reduced", "lower", "lowered", "down",
        "downgrade", "downgraded", "download", "remove", "removed", "removing", "delete", "deleted", "close", "closed",
        "closing", "block", "blocked", "unblock", "stop", "stopped", "stops", "end", "ended", "manual", "manually",
        "less", "fewer", "below", "under", "failed", "fails", "fail", "failure", "last", "false", "bad", "worse",
        "worst", "wrong", "incorrect", "invalid", "deny", "denied", "reject", "rejected", "decline", "declined",
        "refuse", "refused", "sell", "sold", "receive", "received", "exclude", "excluded", "excluding", "except",
        "minimum", "min", "late", "later", "lose", "lost", "hate", "hated", "dislike", "unhappy", "dissatisfied",
        "uninstall", "uninstalled", "unsubscribe", "unsubscribed", "unlock", "unlocked", "disconnect", "disconnected",
        "cancel", "canceled", "cancelled", "cheaper", "slower", "south", "west", "left", "outside", "debit", "minus",
        "negative", "cold", "impossible", "optional", "forbidden", "prohibited", "unsafe", "insecure", "illegal",
        "private", "internal", "offline", "withdraw", "withdrawn", "withdrawal", "expired", "female",
        "divided", "divide", "subtract", "subtracted",
    )
)  # fmt: skip
"""One word of each pair of opposites is enough: where it stands on one side only, the sides differ."""
