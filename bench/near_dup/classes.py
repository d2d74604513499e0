"""`python -m bench.near_dup.classes`: of pairs that differ in one word, how many are merged, by class of that word.

Short rows are requests in four languages; a long row is a request with the same forty words around it. A critical pair
that is merged is a fault, one of a harmless change that is not merged is a duplicate left. The words were not taken
from the guard's lists. Each pair is one corpus of its own among rows that have nothing to do with it.
"""

import random
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from services.curation.compute.near import find_near

RESULT = Path(__file__).parents[1] / "results" / "near_dup_classes.md"
THRESHOLD = 0.6
FRAMES = {
    "en": ("please book the large meeting room for all of us {}", "i would like to know what happens {} with my order"),
    "de": ("bitte buche den grossen Raum für uns alle {}", "ich möchte wissen was {} mit meiner Bestellung passiert"),
    "fr": ("je voudrais réserver la grande salle pour nous {}", "je veux savoir ce qui se passe {} avec ma commande"),
    "es": ("quiero reservar la sala grande para todos nosotros {}", "quiero saber lo que pasa {} con mi pedido"),
}
CRITICAL = {
    "number": {
        "en": "for 3 people|for 4 people|for seven people", "de": "für 3 Personen|für fünf Personen",
        "fr": "pour trois personnes|pour cinq personnes", "es": "para 20 personas|para 30 personas",
    },
    "weekday": {
        "en": "on monday|on Thursday|on friday|on sunday", "de": "am Montag|am Dienstag|am Samstag",
        "fr": "le mardi|le jeudi", "es": "el lunes|el viernes",
    },
    "month": {
        "en": "in may|in june|in september|in march", "de": "im Mai|im Juli|im Dezember", "fr": "en mars|en avril",
        "es": "en enero|en agosto",
    },
    "half of the day": {"en": "at 8 am|at 8 pm", "de": "heute|morgen|gestern", "fr": "demain|hier", "es": "hoy|ayer"},
    "unit": {
        "en": "after 3 days|after 3 weeks|after 3 months", "de": "nach 2 Stunden|nach 2 Tagen",
        "fr": "de 5 kg|de 5 livres", "es": "de 10 metros|de 10 centímetros",
    },
    "currency": {
        "en": "for 50 dollars|for 50 euros|for 50 pounds", "de": "für 50 €|für 50 $",
        "fr": "pour 20 euros|pour 20 francs", "es": "por 30 pesos|por 30 dólares",
    },
    "negation": {
        "en": "if it works|if it does not work;if it fits|if it never fits", "de": "mit Fenster|ohne Fenster",
        "fr": "avec fenêtre|sans fenêtre", "es": "con ventana|sin ventana",
    },
    "opposite": {
        "en": "when i enable it|when i disable it;before lunch|after lunch;if i accept|if i decline;if prices "
        "increase|if prices decrease;when it opens|when it closes;if i buy|if i sell;on the left|on the right;of the "
        "debit|of the credit;the minimum size|the maximum size;if i upload it|if i download it;for the import|for the "
        "export;in the public part|in the private part",
        "de": "wenn ich kaufe|wenn ich verkaufe;links vom Eingang|rechts vom Eingang;vor dem Essen|nach dem Essen",
        "fr": "à gauche|à droite;avant midi|après midi", "es": "antes de comer|después de comer;si abre|si cierra",
    },
    "city, lower case": {
        "en": "in lisbon|in oslo|in madrid|in denver", "de": "in hamburg|in bremen", "fr": "à lyon|à lille",
        "es": "en sevilla|en bilbao",
    },
    "person, capitalised": {
        "en": "with Laura|with Mercedes|with Tom", "de": "mit Jonas|mit Petra", "fr": "avec Pierre|avec Chloé",
        "es": "con Carmen|con Diego",
    },
    "person, lower case": {
        "en": "with laura|with mercedes|with tom", "de": "mit jonas|mit petra", "fr": "avec pierre|avec luc",
        "es": "con carmen|con diego",
    },
    "other thing": {
        "en": "with the projector|with the piano|with the whiteboard", "de": "mit dem Beamer|mit dem Klavier",
        "fr": "avec le piano|avec la guitare", "es": "con la pizarra|con la guitarra",
    },
}  # fmt: skip
HARMLESS = {
    "slip": {"en": "with the projector|with the projecotr;because of the weather|because of the weathr",
             "de": "mit dem Beamer|mit dem Beammer", "fr": "avec le piano|avec le paino",
             "es": "con la pizarra|con la pizzarra"},
    "form": {"en": "with the projector|with the projectors;while traveling|while travelling",
             "de": "mit dem bestellten Essen|mit dem bestellte Essen", "fr": "avec le piano|avec les pianos",
             "es": "con la pizarra|con las pizarras"},
    "courtesy": {"en": "with the piano|with the piano please;in there|in there thanks",
                 "de": "mit Klavier|mit Klavier danke", "fr": "avec le piano|avec le piano merci",
                 "es": "con la pizarra|con la pizarra gracias"},
    "filler": {"en": "with a piano|with the piano;which you have|that you have",
               "de": "mit einem Klavier|mit dem Klavier", "fr": "avec un piano|avec le piano",
               "es": "con una pizarra|con la pizarra"},
    "case": {"en": "with the piano|WITH THE PIANO", "de": "mit Klavier|mit klavier",
             "fr": "avec le piano|Avec Le Piano", "es": "con la pizarra|CON LA PIZARRA"},
}  # fmt: skip
AROUND = (
    "our office has been looking after this matter since the beginning of the project and every colleague who has "
    "something to do with planning agrees that nobody understands how these requests should normally reach your "
    "service while the usual form stays broken"
)


def main() -> int:
    """Print and write the table."""
    lines = [
        "# What a difference of one word does, by class",
        "",
        f"`python -m bench.near_dup.classes`: pairs of rows that differ in one word, threshold {THRESHOLD}.",
        "",
        "| change | short rows merged | long rows merged |",
        "|---|---|---|",
    ]
    for title, table in (("critical", CRITICAL), ("harmless", HARMLESS)):
        totals = [[0, 0], [0, 0]]
        for kind, values in table.items():
            counts = [merged(list(pairs(values, long=long))) for long in (False, True)]
            for total, (hits, count) in zip(totals, counts, strict=True):
                total[0] += hits
                total[1] += count
            lines.append(f"| {kind} | " + " | ".join(f"{hits} of {count}" for hits, count in counts) + " |")
        said = " | ".join(f"**{hits} of {count}, {hits / count:.1%}**" for hits, count in totals)
        lines.append(f"| **all {title}** | {said} |")
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    RESULT.write_text(text)
    return 0


def pairs(values: dict[str, str], *, long: bool) -> Iterator[tuple[str, str]]:
    """Rows that differ in the values alone."""
    for language, given in values.items():
        for alternatives in given.split(";"):
            for left, right in combinations(alternatives.split("|"), 2):
                for frame in FRAMES[language]:
                    both = (frame.format(left), frame.format(right))
                    yield (f"{both[0]} {AROUND}", f"{both[1]} {AROUND}") if long else both


def merged(found: list[tuple[str, str]]) -> tuple[int, int]:
    """How many of the pairs are merged."""
    rng = random.Random(1)
    strangers = [" ".join("".join(rng.choices("abcdefgh", k=7)) for _ in range(12)) for _ in range(50)]
    hits = sum(find_near([*strangers, *each], threshold=THRESHOLD).centres[-1] == len(strangers) for each in found)
    return hits, len(found)


if __name__ == "__main__":
    sys.exit(main())
