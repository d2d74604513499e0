"""Dates, measures and money in the main languages: a line in one language or form, a column for what means the same.

As words are read, case-folded. A word that often means something else (`may`, `am`, a greeting's `day`) has a `?`
behind it and carries no mark: it differs from the others of its line by theirs.
"""

from collections.abc import Iterator, Mapping
from itertools import zip_longest

_DATES = (
    """
    monday tuesday wednesday thursday friday saturday sunday
    mondays tuesdays wednesdays thursdays fridays saturdays sundays
    mon? tue wed thu fri sat? sun?
    - tues weds thurs - - -
    montag dienstag mittwoch donnerstag freitag samstag sonntag
    montags dienstags mittwochs donnerstags freitags samstags sonntags
    lundi mardi mercredi jeudi vendredi samedi dimanche
    lunes martes miércoles jueves viernes sábado domingo
    lunedì martedì mercoledì giovedì venerdì sabato domenica
    segunda-feira terça-feira quarta-feira quinta-feira sexta-feira - -
    maandag dinsdag woensdag donderdag vrijdag zaterdag zondag
    """,
    """
    january february march april may? june july august september october november december
    jan feb mar? apr - jun jul aug sep oct nov dec
    - - - - - - - - sept okt - -
    januar februar märz - mai? juni juli - - oktober - dezember
    janvier février mars avril mai? juin juillet août septembre octobre novembre décembre
    enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre
    gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre
    janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro
    januari februari maart april mei juni juli augustus september oktober november december
    """,
    """
    am? pm
    a.m? p.m
    """,
    """
    today? tomorrow yesterday
    heute? morgen? gestern
    aujourd'hui? demain hier?
    hoy? mañana? ayer
    oggi? domani ieri
    hoje? amanhã ontem
    vandaag? - gisteren
    """,
)

_UNITS = (
    """
    kg mg lb oz g?
    kilogram milligram pound ounce gram
    kilograms milligrams pounds ounces grams
    kilo - lbs - -
    kilos - - - -
    kilogramm milligramm pfund unze gramm
    kilogrammes milligrammes livres onces grammes
    kilogramos miligramos libras onzas gramos
    """,
    """
    km cm mm inch foot yard mile meter
    kilometer centimeter millimeter inches feet yards miles meters
    kilometre centimetre millimetre - - - - metre
    kilometers centimeters millimeters - - - - metres
    kilometres centimetres millimetres zoll - - meilen -
    kilomètres centimètres millimètres pouces pieds - - mètres
    kilómetros centímetros milímetros pulgadas pies - millas metros
    """,
    """
    ml liter gallon pint
    millilitre litre - -
    millilitres litres gallons pints
    milliliters liters - -
    mililitros litros galones pintas
    """,
    """
    seconds minute hour day? week month year
    secs minutes hours days? weeks months years
    sec mins hrs - - - yrs
    sekunden minuten stunden tage? wochen monate jahre
    sekunde - stunde tag? woche monat jahr
    secondes - heures jours? semaines mois ans
    segundos minutos horas días? semanas meses años
    segundo minuto hora día? semana mes? año
    secondi minuti ore? giorni? settimane mesi anni
    - - uur dagen? weken maanden jaren
    """,
    """
    hourly daily? weekly monthly quarterly yearly
    stündlich täglich? wöchentlich monatlich vierteljährlich jährlich
    - - hebdomadaire mensuel trimestriel annuel
    - diario? semanal mensual trimestral anual
    """,
    """
    kb mb gb tb
    kilobytes megabytes gigabytes terabytes
    """,
    """
    celsius fahrenheit kelvin
    """,
    """
    mph km/h
    - kmh
    """,
    """
    percent
    %
    prozent
    """,
)

_MONEY = (
    """
    usd eur gbp jpy chf inr cny sek nok dkk pln mxn krw btc
    $ € £ ¥ - - - - - - - - - -
    dollars euros - yen francs rupees yuan - - - zloty pesos - bitcoin
    dollar euro sterling - franc rupee renminbi - - - - peso - bitcoins
    dólares - libras - francos rupias yuanes - - - - - - -
    - - - - franken rupien rmb kronor - kroner złoty - - -
    """,
    """
    cents?
    """,
)


def _columns(blocks: tuple[str, ...]) -> Iterator[list[str]]:
    """Words that stand in one column."""
    for block in blocks:
        lines = [line.split() for line in block.strip().splitlines()]
        for column in zip_longest(*lines, fillvalue="-"):
            yield [word for word in column if word != "-"]


def _marked(blocks: tuple[str, ...]) -> dict[str, str]:
    return {word: column[0].rstrip("?") for column in _columns(blocks) for word in column if not word.endswith("?")}


def _lines(blocks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """For each word that carries a mark the others of its line."""
    found: dict[str, tuple[str, ...]] = {}
    for block in blocks:
        for line in block.strip().splitlines():
            words = [word for word in line.split() if word != "-"]
            plain = tuple(word.rstrip("?") for word in words)
            for word in words:
                others = tuple(other for other in plain if other != word)
                if not word.endswith("?") and others:
                    found.setdefault(word, others)
    return found


DATES: Mapping[str, str] = _marked(_DATES)
"""Weekdays, months, halves of the day, yesterday and tomorrow, and what each stands for: `montag` is `monday`."""

UNITS: Mapping[str, str] = _marked(_UNITS) | _marked(_MONEY)
"""Measures and currencies, and what each stands for: `euros` are `eur`."""

OTHER_DATES = _lines(_DATES)
"""What could stand in the place of a date, in the same language and form."""
OTHER_UNITS = _lines(_UNITS)
OTHER_MONEY = _lines(_MONEY)
