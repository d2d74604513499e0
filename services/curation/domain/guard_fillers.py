"""Words that say nothing of their own: one in the place of another leaves what a short text asks for as it was."""

_SAID = """
    a about again ah also although am an and any anybody anyone anything anyway are as ask at aw be because been
    being but by bye can cheers come could course currently dear did do does doing done each either else even ever
    exactly for get gets getting give go going good got great greetings guys had has have having he hello help her
    here hey hi him his hmm how however i i'd i'll i'm i've if is it it's its just kindly know let let's like likely
    look looking made make making many may maybe me might mine much must my need needed needs now of oh ok okay or
    ought our ours ourselves perhaps please pls possible possibly question quick quickly quite really regarding
    regards right same say see shall she should simply since so some somebody someone something soon sorry still
    such sure team tell than thank thanks that that's the their them then there there's these they thing things this
    those though through thus thx today too try trying u ur us use used using very want wanted wants was way we well
    were what what's when where whether which while who whom whose why will wish with wonder wondering would yeah
    yes yet you you'd you'll you're you've your yours

    aber als also am an auch auf aus bei beim bin bis bist bitte da dabei damit dann danke das dass dein deine dem
    den denn der des dich die dies diese diesem diesen dieser dieses dir doch du durch ein eine einem einen einer
    eines er es etwas euch euer eure für gerne gibt guten habe haben hallo hat hätte hier ich ihm ihn ihnen ihr ihre
    ihrem ihren ihrer im ins ist ja jetzt kann kannst können könnte könnten machen mal man mein meine meinem meinen
    meiner mich mir mit möchte möchten muss müssen nun nur ob oder schon sehr sein seine sich sie sind so soll
    sollen tun um und uns unser unsere vom von wann war warum was wegen weil welche welcher welches wenn werden wer
    wie wir wird wo wollen will würde zu zum zur

    à alors au aussi aux avec avez avoir bien bonjour c'est ce ces cet cette comme comment dans de des donc du elle
    en es est et être faire fait faut il ils j'ai je l'on la le les leur lui ma mais me merci mes moi mon ne nos
    notre nous on ou où par peut peux plait pour pourquoi pouvez puis puis-je qu'est-ce quand que quel quelle
    quelles quels qui s'il sa salut se ses si son sont suis sur ta te tes toi ton tu un une veux vos votre voudrais
    vous y

    al algo así aunque buenas bueno buenos como cómo con cual cuál cuando cuándo cuáles de del desde donde dónde el
    ella ellos en entonces era eres es esa ese eso esta está estas este esto estos estoy favor fue gracias ha hacer
    hago hay he hola la las le les lo los me mi mis mucho muy necesito nos o para pero poder por porque puede puedes
    puedo pues que qué quién quiero quisiera se sea ser si sí sido sobre son soy su sus también te tengo tiene todo
    tu tus un una unas unos usted y ya yo

    ad agli ai al alla alle anche avere bene buongiorno che chi ci ciao con cosa così cui da dal dalla dei del della
    delle di dove e è ed essere fare favore fra gli grazie ha hai hanno ho i il io la le lei loro lui ma mi mia mie
    miei mio ne nei nel nella noi o per perché piace possiamo posso può qual quale quali quando quanto quello questa
    questo qui quindi se sei si sia siamo sono sta sto su sua sue sul sulla suo te ti tra tu tua tuo un una uno vi
    voglio voi vorrei

    ao aos aquela aquele as até boa bom com como da das de dela dele do e ela ele em então era essa esse esta está
    estou eu faço favor fazer foi gostaria há isso isto já lhe mas me meu meus minha minhas muito na nas nos o
    obrigada obrigado olá onde os ou para pela pelo pode podem podia por porque posso preciso qual quando que quem
    quero se ser seu seus são sobre sou sua suas também te tem tenho ter teu tua um uma você vocês

    aan als alstublieft bedankt ben bij dan dat de deze die dit doe doen door een en er ga goed graag had hallo
    hebben heb heeft het hier hij hoe hun ik is je jij jouw jullie kan kunnen kunt maar maken me meer met mij mijn
    moet naar nog nu of om ons ook op over te tot u uit uw van voor waar waarom wanneer was wat we welke wel wie wij
    wil wilt worden zal ze zich zij zijn zo zou

    的 了 是 在 我 你 您 他 她 它 们 和 与 也 都 就 请 吗 呢 吧 啊 把 被 给 要 想 能 会
    可 以 这 那 个 么 什 怎 样 很 为 有 到 得 地 谢 を に は が の と で も へ か ね よ
    な だ て し ま す た い
"""

FILLERS = frozenset(_SAID.split())
"""Function words, courtesies and what any request is framed in; no preposition that has an opposite (`in`, `from`)."""
