"""Opposites in the main languages, as words are read: case-folded, so that `schließen` stands as `schliessen`."""

from collections.abc import Iterator, Mapping

_OPPOSITES = """
    enable enables enabled enabling / disable disables disabled disabling
    activate activated activating active / deactivate deactivated deactivating inactive
    on / off
    before / after
    earlier early / later late
    increase increased increasing increases / decrease decreased decreasing decreases
    raise raised / lower lowered
    raise raised / reduce reduced
    high / low
    up / down
    upgrade upgraded / downgrade downgraded
    upload uploaded / download downloaded
    add added adding / remove removed removing
    add added / delete deleted
    open opened opening opens / close closed closing closes
    allow allowed / block blocked
    allow allowed / deny denied
    allowed / forbidden prohibited
    start started starts / stop stopped stops
    begin / end ended
    automatic automatically / manual manually
    most more many / least less fewer
    above over / below under
    pass passed passes success / fail failed fails failure
    / last
    true / false
    good better best / bad worse worst
    right / wrong
    right / left
    correct / incorrect
    valid / invalid
    accept accepted accepting accepts / reject rejected rejecting rejects
    accept accepted accepting accepts / decline declined declining declines
    accept accepted / refuse refused
    buy bought buying buys / sell sold selling sells
    purchase / sale
    send sent sending / receive received receiving
    include included including / exclude excluded excluding except
    maximum max maximal / minimum min minimal
    win won gain / lose lost loss
    love loved / hate hated
    like liked / dislike disliked
    happy satisfied / unhappy dissatisfied
    install installed / uninstall uninstalled
    subscribe subscribed / unsubscribe unsubscribed
    lock locked / unlock unlocked
    connect connected / disconnect disconnected
    / cancel canceled cancelled
    cheaper / dearer
    faster / slower
    north / south
    east / west
    inside / outside
    credit credited credits / debit debited debits
    plus / minus
    positive / negative
    hot / cold
    possible / impossible
    mandatory required / optional
    safe secure / unsafe insecure
    legal / illegal
    public / private
    external / internal
    online / offline
    deposit deposited deposits / withdraw withdrawn withdrawal
    / expired
    male / female
    multiplied multiply / divided divide
    add added / subtract subtracted
    import imports imported importing / export exports exported exporting
    incoming inbound / outgoing outbound
    arrival arrive arriving / departure depart departing
    lend lent / borrow borrowed
    show visible / hide hidden
    paid / unpaid
    ascending / descending
    encrypt encrypted / decrypt decrypted
    attach attached / detach detached
    follow / unfollow
    mute / unmute
    join joined / leave quit
    hire hired / fire fired
    complete completed / incomplete unfinished
    profit / expense
    horizontal / vertical

    aktivieren aktiviert / deaktivieren deaktiviert
    einschalten eingeschaltet / ausschalten ausgeschaltet
    öffnen geöffnet / schliessen geschlossen
    kaufen gekauft / verkaufen verkauft
    annehmen angenommen / ablehnen abgelehnt
    erhöhen erhöht / senken gesenkt
    erhöhen erhöht / verringern verringert
    hinzufügen hinzugefügt / entfernen entfernt
    hinzufügen hinzugefügt / löschen gelöscht
    starten gestartet / stoppen gestoppt
    anmelden angemeldet / abmelden abgemeldet
    einzahlen eingezahlt einzahlung / auszahlen ausgezahlt auszahlung
    zusagen zugesagt / absagen abgesagt
    erlauben erlaubt / verbieten verboten
    senden gesendet / empfangen
    rechts rechte rechten / links linke linken
    mehr / weniger
    oben / unten
    früher / später
    vorher / nachher
    gutschrift / lastschrift
    eingang / ausgang
    richtig / falsch
    gut besser / schlecht schlechter
    öffentlich / privat
    heiss / kalt

    activer activé / désactiver désactivé
    ouvrir ouvert / fermer fermé
    acheter acheté / vendre vendu
    accepter accepté / refuser refusé
    augmenter augmenté / diminuer diminué
    augmenter augmenté / réduire réduit
    ajouter ajouté / supprimer supprimé
    allumer / éteindre
    envoyer envoyé / recevoir reçu
    monter / baisser
    avant / après
    droite / gauche
    crédit / débit
    premier première / dernier dernière
    entrée / sortie
    vrai / faux

    activar activado / desactivar desactivado
    abrir abierto / cerrar cerrado
    comprar comprado / vender vendido
    aceptar aceptado / rechazar rechazado
    aumentar aumentado / disminuir disminuido
    aumentar aumentado / reducir reducido
    añadir añadido / eliminar eliminado
    añadir / borrar
    encender / apagar
    enviar enviado / recibir recibido
    subir / bajar
    antes / después
    derecha / izquierda
    más / menos
    crédito / débito
    primero primera / último última
    entrada / salida
    verdadero / falso

    attivare / disattivare
    aprire / chiudere
    comprare / vendere
    accettare / rifiutare
    aumentare / diminuire
    aggiungere / rimuovere
    prima / dopo
    destra / sinistra
    più / meno
    credito / debito
    entrata / uscita

    ativar / desativar
    abrir / fechar
    aceitar / recusar
    adicionar / remover
    antes / depois
    direita / esquerda
    entrada / saída

    inschakelen / uitschakelen
    openen / sluiten
    kopen / verkopen
    accepteren / weigeren
    verhogen / verlagen
    toevoegen / verwijderen
    meer / minder

    买 / 卖
    增 / 减
    左 / 右
"""
"""Forms side by side, before the stroke and behind it. Those behind carry the mark, the first of them: one side is
enough, since where it stands in one text only, the texts differ."""


def _sides() -> Iterator[tuple[list[str], list[str]]]:
    for line in filter(None, map(str.strip, _OPPOSITES.splitlines())):
        plain, marked = line.split("/")
        yield plain.split(), marked.split()


OPPOSITES: Mapping[str, str] = {word: marked[0] for _, marked in _sides() for word in marked}
"""One side of each pair of opposites, and the form it stands for: `disabled` is `disable`."""

OPPOSITE_OF: Mapping[str, str] = {
    **{other: word for plain, marked in _sides() for word, other in zip(plain, marked, strict=False)},
    **{word: other for plain, marked in _sides() for word, other in zip(plain, marked, strict=False)},
}
"""The word that says the opposite, both ways."""
