"""From bytes to text: BOM, UTF-16 by its NULs, UTF-8, then the likeliest legacy encoding.

A wrong decoder seldom fails on East Asian text; it gives rare characters. So each script has its
commonest characters, which make up well over half of any real text, and everything else counts
little or against. A wrong decoder of one byte a character gives letters too, but not those of any one
language, and not in places where letters stand.

Measured on the table of the tests, by which this was tuned (117 samples of 26 languages): chardet 7.7,
of 3.6 MB, reads 104 right, charset-normalizer 3.5 58. Of 34 sentences that it was not tuned by, this read
33 at first and chardet 29; of 39 older samples, most of them short and Chinese, all and 34.

In a text of ASCII with a few signs or accents the western encoding is likelier than the rarer Latin ones,
and signs count where English has them. Chinese, Japanese and Korean tables often hold no more of these
languages than a few names, so the commonest characters of names are among the others.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from kbsync.errors import Rejected

_SIMPLIFIED = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然"
    "家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把"
    "机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果"
    "加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔"
    "更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展"
    "马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共"
    "确传师观清今切院让识候带导争运请星期客户价称号单位址码密登录版文档件夹网络系统服务器配置备份测试错误"
    # names of people
    "李张刘陈杨赵黄周吴徐孙胡朱林何郭罗梁宋郑谢韩唐冯董萧曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范石"
    "姚谭廖邹熊陆郝孔崔康毛邱秦江顾侯邵孟龙万段钱汤尹黎易武乔贺赖龚伟芳娜敏静丽磊洋艳勇杰娟涛超霞秀英桂兰玲燕红梅建辉鹏"
    "飞雪峰婷欣宇浩然晨雨佳怡梓轩豪俊凯欢琳倩颖莹宁雯博思诗涵子萱嘉悦瑞晓春玉兵刚云波斌宏鑫慧"
)
_TRADITIONAL = frozenset(
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然"
    "家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把"
    "機十民第公此已工使情明性知全三又關點正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果"
    "加西斯月話合回特代內信表化老給世位次度門任常先海通教兒原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾"
    "更別打女變四神總何電數安少報才結反受目太量再感建務做接必場件計管期市直德資命山金指克許統區保至隊形社便空決治展"
    "馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該交規萬取拉格望覺術領共"
    "確傳師觀清今切院讓識候帶導爭運請星期客戶價稱號單址碼密登錄版檔夾網絡服務器配置備份測試錯誤灣臺"
    # names of people
    "李張劉陳楊趙黃周吳徐孫胡朱林何郭羅梁宋鄭謝韓唐馮董蕭曹袁鄧許傅沈曾彭呂蘇盧蔣蔡賈丁魏薛葉余潘杜戴夏鍾汪田任姜范石"
    "姚譚廖鄒熊陸孔崔康邱秦江顧侯邵孟龍段錢湯尹黎易武喬賀賴龔洪游詹簡莊柯翁涂溫淑芬美玲惠怡君雅婷佳穎志豪俊傑宏偉冠宇家"
    "承翰柏廷威宗哲瑋彥霖欣儀筑涵雯琪婉麗華雄英秀珠玉珍素貞春梅慧敏芳倫銘輝祥昌榮勝德仁義信娟燕蓉萍倩如安"
)
_JAPANESE = frozenset(
    "日一国人年大十二本中長出三時行見月後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男"
    "西電校語土木聞食車何南万毎白天母火右読友左休父雨会社事自者地発方新場員立開手力問代明動京目通言理体田主題意不作"
    "用度強公持野以思家世多正安院心界教文元重近考画海売知道集別物使品計死特私始朝運終台広住無真有口少町料工建空急止"
    "送切転研足究楽起着店病質待試族銀早映親験英医仕味写字答夜音注帰古歌買悪図週室歩風紙黒花春赤青館屋色走成部分表"
    "設定対的性化内同当全回最関連合法加機要実現変更情報資約制戦政経済市民数取次点業保第相調議進決確認請求書類者様"
    # names of people
    "佐藤鈴橋伊渡辺村林加吉口井斎清崎森池阿石岡近坂遠福太浦松島和竹柴酒宮谷丸武原柳菅沢澤平杉栗堀秋桜郎之美香恵子健翔陽"
    "蓮悠真優愛結奈菜花彩希由紀裕浩博隆幸誠智直樹拓哉介輔治雄男夫久義秀輝康成司"
)
_HANGUL = frozenset(
    "이다는의에을를가고하은한로지도사자기어시인들대리니라그아해서정수나일안있보게주부장만전여오우상원구제스으면것과와"
    "동성비공신조세음였했습까요적국개문생중명방학소용요물경실회위무산관내화분업양품교년월일입출금선건당단체통"
    # names of people
    "김박최강조윤임한권황송류홍손배백허남심노하곽차우민엄채천현함변염추석설준서연지훈빈예은호영희숙미경순철진혁재태"
)
_KANA = re.compile("[ぁ-んァ-ヶー]")
_LATIN_LETTERS = frozenset("àâäáãåæçéèêëíìîïñóòôöõøœúùûüýÿßÀÂÄÁÃÅÆÇÉÈÊËÍÌÎÏÑÓÒÔÖÕØŒÚÙÛÜÝšžŠŽ")
_LATIN_MARKS = frozenset("’‘“”„–—…€«»°§©®™·£¡¿ºª²³½¼×±µ•\xa0\xad¹¾´¨¢¥¶†‡‰‹›‚×÷¦¬")
_WIDE_MARKS = frozenset("，。、：；！？“”‘’（）《》「」『』【】〈〉…—·〜～％／　・")

Weight = Callable[[str], float]


def _east_asian(common: frozenset[str], encoding: str, first_level: tuple[int, int]) -> Weight:
    """Commonest characters count most; those of the standard's first level a little; the rest against."""

    def weigh(character: str) -> float:
        if character in common:
            return 1.0
        if character in _WIDE_MARKS:
            return 0.6
        raw = character.encode(encoding, "replace")
        if len(raw) == 2 and first_level[0] <= raw[0] <= first_level[1] and _is_second_byte(encoding, raw[1]):
            return 0.3
        return -0.7

    return weigh


def _is_second_byte(encoding: str, byte: int) -> bool:
    """GB2312 and EUC characters have a high second byte; below it lie the later, rare additions."""
    return byte >= 0xA1 or encoding in ("big5", "cp932")


def _with_kana(weigh: Weight) -> Weight:
    return lambda character: 0.9 if _KANA.match(character) else weigh(character)


def mean_weight(weigh: Weight, flawless: float = 0.0) -> Callable[[str], float]:
    """The mean of `weigh` over the characters outside ASCII; -2 where there are none.

    `flawless` is added where there are several and none is rare, which chance seldom makes of other writing,
    and taken away where there is but one: any two bytes may be one.
    """

    def score(text: str) -> float:
        counts = Counter(c for c in text if c > "\x7f")
        total = sum(counts.values())
        if not total:
            return -2.0
        weights = {c: weigh(c) for c in counts}
        mean = sum(n * weights[c] for c, n in counts.items()) / total
        if total == 1:
            return mean - flawless
        return mean + flawless if min(weights.values()) > 0 else mean

    return score


_FRENCH = "éèàêçùâîôûœëïüÿæ"
_ALPHABETS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cp1252", (
        _FRENCH,
        "üäöß",  # German
        "óíáéñúüªº",  # Spanish
        "ãçáéíóõêâúàôüªº",  # Portuguese
        "èàùìòéîº",  # Italian
        "äåöé", "äöåšž", "øåæéóòôü", "íáðéúæþóöý", "íáðøóýúæ",  # Swedish, Finnish, Danish, Icelandic, Faroese
        "ëéïèóüê", "àéèíóçòúïü·", "ëç", "äõüöšž",  # Dutch, Catalan, Albanian, Estonian
    )),
    ("cp1250", (
        "łęążóśćńź", "íáěéřýšžčůúťďňó", "áíéžýčšúľťňôďóäŕĺ",  # Polish, Czech, Slovak
        "áéöóőíüúű", "čšžćđ", "ăîţşâ",  # Hungarian, Croatian and Slovene, Romanian
    )),
    ("cp1254", ("ışğüçöİâîû",)),  # Turkish
    ("cp1257", ("ėųšįžąūęč", "āīēšūļžņķģč", "äõüöšž")),  # Lithuanian, Latvian, Estonian
    ("cp1251", (
        "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё",  # Russian
        "оаинвітерслкудмпязьгбчйхцжїюшєщфґ",  # Ukrainian
        "аиоенртсвлкдпмъзубячгщжцхшфйюь",  # Bulgarian
        "анорсіеклтдвяумпзьбжгйчшыюўёэхфц",  # Belarusian
        "аоиенсртјувкдмлпзбгчшцжхњћљфђџ",  # Serbian
    )),
    ("cp1253", ("αοιετσνηυρπκμλςωδγθάίόέφχήύβξζώψϊϋΐΰ",)),  # Greek
    ("cp1255", ("יוהלארתבמשעכנחדקפםגצטזסןךףץ",)),  # Hebrew
    ("cp1256", ("اليمنرتوبةعدسفهكقحجشطصخذثضزغءأإىئآؤظپچژگ،؟",)),  # Arabic
    ("cp874", (  # Thai
        "านรอก\u0e48เง\u0e49มยล\u0e31วด"
        "ทสต\u0e34ะปบค\u0e35ห\u0e38แจพ\u0e39ชขใ\u0e33\u0e4c\u0e37ไโซณ\u0e47ถผธศษภ\u0e36ญฐฟฎฉๆฝฤฒฏฮฌ",
    )),
)  # fmt: skip
"""By encoding, what each of its languages writes beyond ASCII, the commonest letters first."""

_SAME_LETTERS = {
    "cp1250": ("iso8859-2",),
    "cp1254": ("iso8859-9",),
    "cp1251": ("koi8-u", "cp866", "iso8859-5"),
    "cp1253": ("iso8859-7",),
}
"""Older encodings of the same languages."""

_HANDICAPS = {
    **dict.fromkeys(("cp1252", "cp1255"), 0.0),
    "cp1251": 0.03,
    **dict.fromkeys(("cp1250", "cp1254", "cp1257", "iso8859-2", "iso8859-9"), 0.04),
    "cp874": 0.25,
}
_HANDICAP = 0.25
"""What a rarer encoding has to fit better: two bytes of Chinese are as good as any two letters of Greek."""

_NO_MARKS = dict.fromkeys(map(ord, _LATIN_MARKS))
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_SIGN_IN_PLACE = re.compile(
    r"""(?:
        (?<![a-z]) [^\x00-\x7f]{1,2} (?![a-z])  # alone or beside a digit: £10, ± 5, § 3
        | (?<![a-z]) [©’‘“”„–—…•«»‹›†‡\xa0\xad]{1,2} | [©®™’‘“”„–—…•«»‹›†‡\xa0\xad]{1,2} (?!\w)
        | (?<=[a-z]) [’–—…\xad] (?=[a-z])
        | (?<=\b[a-z]) [¹²³ªº] \b | (?<=\b[kcdm]m) [²³] \b | (?<=\bft) [²³] \b
        | (?<![a-z]) [µ°] (?= (?:[glmsacfknvw]|mol|min)\b )
        | (?<![a-z]) ¿ (?= [^?\n]{0,200}\? ) | (?<![a-z]) ¡ (?= [^!\n]{0,200}! )
    )(?![^\x00-\x7f])""",
    re.VERBOSE | re.IGNORECASE,
)
"""What English writes beyond ASCII; the Š, Ł and ą of the same bytes stand in words."""
_BETWEEN_LETTERS = re.compile(  # but for Catalan l·l and the dash of two names
    r"(?<=[^\W\d_])(?!(?<=[lL])·[lL]|(?<=[a-zA-Z])–[a-zA-Z])[^\w\s\x00-\x7f’\u0e31-\u0e4e]+(?=[^\W\d_])"
)
_ASTRAY = re.compile(  # above or below no letter, in Thai and Hebrew
    "[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u05b0-\u05c7](?<![ก-ฮ\u0e31-\u0e4eא-ת\u05b0-\u05c7].)"
)
_TOUCHING = re.compile(  # a sign right beside a letter outside ASCII
    r"[¹²³€£¥¢§±¶µ¼½¾×÷¬¦©®™†‡‰¤°](?:(?=[^\W\d_\x00-\x7f])|(?<=[^\W\d_\x00-\x7f].))"
)
_UNWESTERN = re.compile(  # the ends of words in Latvian and Polish, ļ and ď, and rows of accents
    r"[âîûï]\b|ï(?<=\bï)|ê\b(?<=[aijkwyz]ê)|[àâäáãåæçéèêëíìîïñóòôöõøœúùûüýÿß]{3,}", re.IGNORECASE
)
_ENGLISH = re.compile(r"\b(?:the|and|with|from|this|that|you|for)\b", re.IGNORECASE)


def _signs_in_place(text: str) -> int:
    return sum(
        len(found[0])
        for found in _FOREIGN.finditer(text)
        if len(found[0]) <= 2
        and _LATIN_MARKS.issuperset(found[0])
        and _SIGN_IN_PLACE.match(text, found.start())
    )


def _faults(text: str) -> int:
    """Characters of words that nobody writes: capitals and signs inside, two scripts, rows of accents."""
    faults = sum(map(len, _BETWEEN_LETTERS.findall(text)))
    faults += len(_ASTRAY.findall(text)) + len(_TOUCHING.findall(text))
    for run, times in Counter(_FOREIGN.findall(text)).items():
        marks = sum(c in _LATIN_MARKS for c in run)
        if 2 <= marks < len(run) and max(run.translate(_NO_MARKS)) < "\u0250":
            faults += times * len(run)
    for word, times in Counter(_LETTERS.findall(text)).items():
        if word.isascii():
            continue
        foreign = sum(c > "\x7f" for c in word)
        is_latin = max(word) < "\u0250"
        is_mixed = not is_latin and foreign < len(word)
        is_odd = not (word.lower() == word or word.isupper() or word[1:].lower() == word[1:])
        if is_mixed or is_odd or (is_latin and foreign > 4 and foreign * 3 > 2 * len(word)):
            faults += times * foreign
    return faults


def _weights(letters: str, least: float) -> dict[str, float]:
    """From 1 for the commonest letter down to `least`; a capital counts less, so that KOI8 is not Windows."""
    ranks = enumerate(letters)
    weights = {letter: least + (1.0 - least) * (1.0 - rank / len(letters)) ** 1.5 for rank, letter in ranks}
    return {c.upper(): w * 0.75 for c, w in weights.items() if len(c.upper()) == 1} | weights


def _doubt(text: str) -> float:
    """How much likelier western is than the rarer Latin encodings: much for one word, or among English."""
    words = {word for word in _LETTERS.findall(text) if not word.isascii()}
    return 0.2 / max(1, len(words)) ** 2 + (0.3 if _ENGLISH.search(text) else 0.0)


def _alphabetic(alphabets: tuple[str, ...], handicap: float) -> Callable[[str], float]:
    """How well the text fits the best of some languages that share an encoding."""
    is_latin = alphabets[0][0] < "\u0250"
    tables = [_weights(letters, 0.6 if is_latin else 0.2) for letters in alphabets]
    is_western = alphabets[0] == _FRENCH
    if is_western:  # its names stand together in one text, which those of other languages seldom do
        tables.append(dict.fromkeys(_LATIN_LETTERS, 0.65))

    def score(text: str) -> float:
        counts = Counter(c for c in text if c > "\x7f")
        total = sum(counts.values())
        if not total:
            return -2.0
        marks = sum(n * 0.6 for c, n in counts.items() if c in _LATIN_MARKS)
        if marks:
            marks += 0.4 * _signs_in_place(text)
        told = {c: n for c, n in counts.items() if c not in _LATIN_MARKS}
        best = max(sum(n * table.get(c, -1.0) for c, n in told.items()) for table in tables)
        fitting = (best + marks - 2 * _faults(text)) / total - handicap
        if not is_latin:
            return fitting
        if not is_western:
            return fitting - _doubt(text)
        fitting -= 2 * sum(map(len, _UNWESTERN.findall(text))) / total
        # a stray accent among ASCII, as of half a character at the end: western rather than UTF-16
        return max(fitting, 0.15) if total < 3 and total * 3 < len(text) else fitting

    return score


_FLAWLESS = 0.2  # two names in a table of ASCII

SCORES: tuple[tuple[str, Callable[[str], float]], ...] = (
    ("gb18030", mean_weight(_east_asian(_SIMPLIFIED, "gb18030", (0xB0, 0xD7)), _FLAWLESS)),
    ("big5", mean_weight(_east_asian(_TRADITIONAL, "big5", (0xA4, 0xC6)), _FLAWLESS)),
    ("cp932", mean_weight(_with_kana(_east_asian(_JAPANESE, "cp932", (0x88, 0x97))), _FLAWLESS)),
    ("euc_jp", mean_weight(_with_kana(_east_asian(_JAPANESE, "euc_jp", (0xB0, 0xCF))), _FLAWLESS)),
    ("euc_kr", mean_weight(_east_asian(_HANGUL, "euc_kr", (0xB0, 0xC8)), _FLAWLESS)),
    *(
        (encoding, _alphabetic(alphabets, _HANDICAPS.get(encoding, _HANDICAP)))
        for first, alphabets in _ALPHABETS
        for encoding in (first, *_SAME_LETTERS.get(first, ()))
    ),
)
"""Legacy encodings in the order in which a tie is settled, each with the score of a text decoded by it."""


def _wide(character: str) -> float:
    if character in _SIMPLIFIED or character in _TRADITIONAL or _KANA.match(character):
        return 1.0
    if character in _WIDE_MARKS:
        return 0.6
    return 0.1 if "\u4e00" <= character <= "\u9fff" else -1.0


WIDE_SCORES: tuple[tuple[str, Callable[[str], float]], ...] = tuple(
    (encoding, mean_weight(_wide)) for encoding in ("utf-16-le", "utf-16-be")
)
"""UTF-16 that has neither a BOM nor a NUL: text without a single ASCII character."""


_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 64 * 1024
_JUDGED = 16 * 1024  # bytes that the legacy encodings are told apart by
_MAGIC = (
    b"%PDF-",
    b"PK\x03\x04",
    b"\x89PNG",
    b"\x7fELF",
    b"\x1f\x8b",
    b"GIF8",
    b"\xff\xd8\xff",
    b"7z\xbc\xaf",
)
_BINARY = "looks like a binary file, not text; give it the extension of its format or exclude it"
_NOISE_SHARE = 0.02  # random bytes have ten per cent control characters, text with stray ones far less
_HARMLESS = frozenset("\t\n\r\f\b\x1b")  # back-space and escape: manual pages and coloured logs
_FOREIGN_of_decode = re.compile(rb"[\x80-\xff][^\n]*\n?")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DECLARED = re.compile(rb"""<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]{2,30})["']""", re.IGNORECASE)
_META = re.compile(rb"""<meta\b[^>]{0,200}?\bcharset\s*=\s*(?:["']\s*)?([\w.:-]{2,30})""", re.IGNORECASE)
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030", "shift_jis": "cp932", "x-sjis": "cp932",
          "iso-8859-1": "cp1252", "latin-1": "cp1252", "us-ascii": "cp1252", "ks_c_5601-1987": "cp949",
          "euc-kr": "cp949", "big5": "big5hkscs"}  # fmt: skip
"""What files declare and what they hold: everybody decodes these labels by the superset."""


_NEVER_DECLARED = frozenset(
    ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-16", "utf-32")
)
"""Codecs of Python that no document is in, or that need the mark which would have been believed first."""


def decode(raw: bytes) -> str:
    """The text of `raw` with `\\n` line ends and no BOM; a character cut off at the end is left out.

    Raises `Rejected` where it is no text.
    """
    return _tidied(_decoded(raw))


def decode_declared(raw: bytes, label: str | None = None) -> str:
    """Like `decode` for HTML, XML and mail, which may say what they are in: `label`, or their first lines.

    A BOM and valid UTF-8 are believed before the declaration, which is often left from a template.
    """
    encoding = _codec(label) or _codec(_declaration(raw[:4096]))
    if encoding is None or _has_bom(raw) or _looks_wide(raw):
        return decode(raw)
    utf8 = _as_utf8(raw)
    if utf8 is not None:
        return _tidied(utf8 if not utf8.isascii() else _loose(raw, encoding))
    text = _loose(raw, encoding)
    return _tidied(text) if text.count("\ufffd") * 50 <= len(text) else decode(raw)


def _decoded(raw: bytes) -> str:
    for bom, encoding in _BOMS:
        if raw.startswith(bom):
            return _loose(raw[len(bom) :], encoding)
    if raw.startswith(_MAGIC):
        raise Rejected(_BINARY, code="binary")
    wide = _looks_wide(raw)
    if wide:
        return _loose(raw, wide)
    utf8 = _as_utf8(raw)
    return _loose(raw, _likeliest(raw)) if utf8 is None else utf8


def _has_bom(raw: bytes) -> bool:
    return any(raw.startswith(bom) for bom, _ in _BOMS)


def _loose(raw: bytes, encoding: str) -> str:
    """Decode, bad bytes replaced, a cut-off character at the end dropped."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    return decoder.decode(raw, final=False)


def _strict(raw: bytes, encoding: str) -> str | None:
    """Decode, or None; a cut-off character at the end is no fault."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(raw, final=False)
    except UnicodeDecodeError:
        return None


def _looks_wide(raw: bytes) -> str | None:
    """UTF-16 without a BOM: ASCII characters in it have their NUL always on the same side."""
    sample = raw[:_SAMPLE]
    if 0 not in sample:
        return None
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if even == odd or min(even, odd) * 20 > max(even, odd):
        return None
    encoding = "utf-16-be" if even > odd else "utf-16-le"
    text = _strict(sample, encoding)
    return None if text is None or _noise(text) > _NOISE_SHARE else encoding


def _as_utf8(raw: bytes) -> str | None:
    """`raw` as UTF-8, even with a stray bad byte among many good ones; None where it is something else."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        text = decoder.decode(raw, final=False)
    except UnicodeDecodeError:
        return _mostly_utf8(raw)
    tail = decoder.getstate()[0]
    # One high byte after nothing but ASCII is rather the é of a Latin-1 "café" than half a character.
    return None if len(tail) == 1 and text.isascii() else text


def _mostly_utf8(raw: bytes) -> str | None:
    text = _loose(raw, "utf-8")
    bad = text.count("\ufffd")
    good = len(text) - len(text.encode("ascii", "ignore")) - bad
    return text if good >= 9 * bad else None


def _likeliest(raw: bytes) -> str:
    sample = _telling_lines(raw)
    best, best_score = "latin-1", -1.5
    for encoding, score in (*SCORES, *WIDE_SCORES):
        text = _strict(sample, encoding)
        if text is None or _noise(text) > _NOISE_SHARE:
            continue
        if (value := score(text)) > best_score:
            best, best_score = encoding, value
    return best


def _telling_lines(raw: bytes) -> bytes:
    """The lines from their first byte outside ASCII on, as many as are needed to judge by."""
    if len(raw) <= _JUDGED:
        return raw
    kept, size = [], 0
    for line in _FOREIGN_of_decode.finditer(raw):
        kept.append(line[0][:_JUDGED])
        size += len(kept[-1])
        if size >= _JUDGED:
            break
    return b"".join(kept)


_COMMON = bytes((*b"\t\n\r", *range(0x20, 0x7F)))
_SUSPICIOUS = re.compile(f"[^{re.escape(_COMMON.decode())}]")
"""What is neither printable ASCII nor a common white space is looked at one by one."""


def _suspicious(text: str) -> Sequence[str]:
    """Such characters of a text; most texts have none, which bytes tell ten times as fast."""
    if text.isascii():
        return text.encode().translate(None, _COMMON).decode()
    return _SUSPICIOUS.findall(text)


def _noise(text: str) -> float:
    """The share of characters that no writing has."""
    sample = text[:_SAMPLE]
    noise = sum(map(_is_noise, _suspicious(sample)))
    return noise / max(1, len(sample))


def _is_noise(character: str) -> bool:
    return character not in _HARMLESS and unicodedata.category(character) in ("Cc", "Cn", "Co")


def _tidied(text: str) -> str:
    if _noise(text) > _NOISE_SHARE:
        raise Rejected(_BINARY, code="binary")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and not _suspicious(text):
        return text
    return _CONTROL.sub("", text).removeprefix("\ufeff")


def _declaration(head: bytes) -> str | None:
    found = _DECLARED.search(head) or _META.search(head)
    return found[1].decode("ascii") if found else None


def _codec(label: str | None) -> str | None:
    """The codec for a declared label; None for none, unknown ones and what is no text encoding."""
    if not label:
        return None
    name = _WIDER.get(label.strip().lower(), label.strip())
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    is_text = getattr(found, "_is_text_encoding", True) and found.name not in _NEVER_DECLARED
    return found.name if is_text and found.incrementaldecoder else None
