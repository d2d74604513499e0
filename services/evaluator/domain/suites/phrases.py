"""A small phrasebook of what people write when they ask for something, and letters of other scripts for Latin ones."""

# ruff: noqa: E501, RUF001 - one phrase a line, in letters of other scripts

LANGUAGES = ("de", "fr", "es", "ru", "zh", "ar", "hi")
_BOOK = """
good morning | Guten Morgen | Bonjour | Buenos días | Доброе утро | 早上好 | صباح الخير | सुप्रभात
hello | Hallo | Bonjour | Hola | Здравствуйте | 您好 | مرحبا | नमस्ते
hi | Hallo | Salut | Hola | Привет | 你好 | مرحبا | नमस्ते
thank you | vielen Dank | merci beaucoup | muchas gracias | большое спасибо | 谢谢您 | شكرا لك | धन्यवाद
thanks | danke | merci | gracias | спасибо | 谢谢 | شكرا | धन्यवाद
please | bitte | s'il vous plaît | por favor | пожалуйста | 请 | من فضلك | कृपया
as soon as possible | so bald wie möglich | dès que possible | lo antes posible | как можно скорее | 尽快 | في أقرب وقت ممكن | जल्द से जल्द
does not work | funktioniert nicht | ne fonctionne pas | no funciona | не работает | 不能用 | لا يعمل | काम नहीं करता
doesn't work | funktioniert nicht | ne fonctionne pas | no funciona | не работает | 不能用 | لا يعمل | काम नहीं करता
is not working | funktioniert nicht | ne fonctionne pas | no funciona | не работает | 不能用 | لا يعمل | काम नहीं कर रहा
since this morning | seit heute Morgen | depuis ce matin | desde esta mañana | с сегодняшнего утра | 从今天早上开始 | منذ هذا الصباح | आज सुबह से
since yesterday | seit gestern | depuis hier | desde ayer | со вчерашнего дня | 从昨天开始 | منذ أمس | कल से
yesterday | gestern | hier | ayer | вчера | 昨天 | أمس | कल
today | heute | aujourd'hui | hoy | сегодня | 今天 | اليوم | आज
tomorrow | morgen | demain | mañana | завтра | 明天 | غدا | कल
now | jetzt | maintenant | ahora | сейчас | 现在 | الآن | अब
again | wieder | encore | otra vez | снова | 又 | مرة أخرى | फिर से
always | immer | toujours | siempre | всегда | 总是 | دائما | हमेशा
never | nie | jamais | nunca | никогда | 从不 | أبدا | कभी नहीं
i need | ich brauche | j'ai besoin de | necesito | мне нужно | 我需要 | أحتاج إلى | मुझे चाहिए
i have | ich habe | j'ai | tengo | у меня есть | 我有 | لدي | मेरे पास है
i cannot | ich kann nicht | je ne peux pas | no puedo | я не могу | 我不能 | لا أستطيع | मैं नहीं कर सकता
i can't | ich kann nicht | je ne peux pas | no puedo | я не могу | 我不能 | لا أستطيع | मैं नहीं कर सकता
can you | können Sie | pouvez-vous | puede usted | вы можете | 您能 | هل يمكنك | क्या आप
could you | könnten Sie | pourriez-vous | podría usted | не могли бы вы | 您能否 | هل يمكنك | क्या आप
we | wir | nous | nosotros | мы | 我们 | نحن | हम
problem | Problem | problème | problema | проблема | 问题 | مشكلة | समस्या
question | Frage | question | pregunta | вопрос | 疑问 | سؤال | प्रश्न
help | Hilfe | aide | ayuda | помощь | 帮助 | مساعدة | मदद
urgent | dringend | urgent | urgente | срочно | 紧急 | عاجل | अत्यावश्यक
error message | Fehlermeldung | message d'erreur | mensaje de error | сообщение об ошибке | 错误信息 | رسالة خطأ | त्रुटि संदेश
error | Fehler | erreur | error | ошибка | 错误 | خطأ | त्रुटि
customer | Kunde | client | cliente | клиент | 客户 | العميل | ग्राहक
order | Bestellung | commande | pedido | заказ | 订单 | الطلب | ऑर्डर
invoice | Rechnung | facture | factura | счёт | 发票 | الفاتورة | बिल
account | Konto | compte | cuenta | учётная запись | 账户 | الحساب | खाता
password | Passwort | mot de passe | contraseña | пароль | 密码 | كلمة المرور | पासवर्ड
computer | Computer | ordinateur | ordenador | компьютер | 电脑 | الحاسوب | कंप्यूटर
screen | Bildschirm | écran | pantalla | экран | 屏幕 | الشاشة | स्क्रीन
printer | Drucker | imprimante | impresora | принтер | 打印机 | الطابعة | प्रिंटर
phone | Telefon | téléphone | teléfono | телефон | 电话 | الهاتف | फ़ोन
number | Nummer | numéro | número | номер | 号码 | رقم | नंबर
and | und | et | y | и | 和 | و | और
but | aber | mais | pero | но | 但是 | لكن | लेकिन
because | weil | parce que | porque | потому что | 因为 | لأن | क्योंकि
with | mit | avec | con | с | 和 | مع | के साथ
without | ohne | sans | sin | без | 没有 | بدون | के बिना
what | was | que | qué | что | 什么 | ماذا | क्या
where | wo | où | dónde | где | 哪里 | أين | कहाँ
when | wann | quand | cuándo | когда | 什么时候 | متى | कब
how | wie | comment | cómo | как | 怎么 | كيف | कैसे
why | warum | pourquoi | por qué | почему | 为什么 | لماذا | क्यों
"""
PHRASES: dict[str, dict[str, str]] = {
    cells[0]: dict(zip(LANGUAGES, cells[1:], strict=True))
    for cells in ([cell.strip() for cell in line.split(" | ")] for line in _BOOK.strip().splitlines())
}
"""English -> language -> the same there."""

FRAMES = {
    "de": ("Guten Tag, ich schreibe Ihnen auf Deutsch und teils auf Englisch:", "Bitte bearbeiten Sie das. Danke!"),
    "fr": ("Bonjour, voici ma demande, en partie en anglais :", "Merci de la traiter. Bonne journée."),
    "es": ("Hola, les escribo por lo siguiente, en parte en inglés:", "Por favor, atiéndanlo. Un saludo."),
    "ru": ("Здравствуйте, вот моё обращение, частично на английском:", "Прошу его обработать. Спасибо."),
    "zh": ("您好, 以下是我的请求, 部分为英文:", "请处理, 谢谢!"),
    "ar": ("مرحبا، هذا طلبي، وجزء منه بالإنجليزية:", "يرجى معالجته. شكرا جزيلا."),
    "hi": ("नमस्ते, मेरा अनुरोध यह है, कुछ अंग्रेज़ी में:", "कृपया इसे देखें। धन्यवाद।"),
    "he": ("שלום, זאת הבקשה שלי, חלקה באנגלית:", "אנא טפלו בה. תודה רבה."),
}
"""Sentences before and after a text, which say what it is and what is wanted."""
RIGHT_TO_LEFT = ("ar", "he")
FILLERS = {"de": "also", "fr": "enfin", "es": "pues", "ru": "то есть", "zh": "就是", "ar": "يعني", "hi": "मतलब"}
"""What slips in between the words of who thinks in another language."""

CYRILLIC = {
    "sh": "ш", "ch": "ч", "zh": "ж", "kh": "х", "ts": "ц", "ya": "я", "yu": "ю", "th": "т", "a": "а", "b": "б",
    "c": "к", "d": "д", "e": "е", "f": "ф", "g": "г", "h": "х", "i": "и", "j": "дж", "k": "к", "l": "л", "m": "м",
    "n": "н", "o": "о", "p": "п", "q": "к", "r": "р", "s": "с", "t": "т", "u": "у", "v": "в", "w": "в", "x": "кс",
    "y": "й", "z": "з",
}  # fmt: skip
GREEK = {
    "th": "θ", "ch": "χ", "ps": "ψ", "a": "α", "b": "μπ", "c": "κ", "d": "ντ", "e": "ε", "f": "φ", "g": "γκ", "h": "χ",
    "i": "ι", "j": "τζ", "k": "κ", "l": "λ", "m": "μ", "n": "ν", "o": "ο", "p": "π", "q": "κ", "r": "ρ", "s": "σ",
    "t": "τ", "u": "ου", "v": "β", "w": "ου", "x": "ξ", "y": "ι", "z": "ζ",
}  # fmt: skip
LATIN = {
    "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ё": "yo", "ж": "zh", "з": "z", "и": "i", "й": "y",
    "к": "k", "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r", "с": "s", "т": "t", "у": "u", "ф": "f",
    "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ъ": "", "ы": "y", "ь": "", "э": "e", "ю": "yu", "я": "ya",
    "α": "a", "β": "v", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "η": "i", "θ": "th", "ι": "i", "κ": "k", "λ": "l",
    "μ": "m", "ν": "n", "ξ": "x", "ο": "o", "π": "p", "ρ": "r", "σ": "s", "ς": "s", "τ": "t", "υ": "y", "φ": "f",
    "χ": "ch", "ψ": "ps", "ω": "o",
}  # fmt: skip
LOOK_ALIKES = dict(zip("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ", strict=True))
"""Latin letters and Cyrillic ones that look the same."""
