"""Languages in the encodings that their old files are in: a few words, and a few sentences."""

from __future__ import annotations

LANGUAGES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "Icelandic": (
        ("cp1252",),
        "Það er gott veður í dag.",
        "Það er gott veður í dag. Skrifstofan er opin frá níu til fimm alla virka daga. Ég "
        "ætla að fara út að "
        "ganga með hundinn minn og kaupa brauð, mjólk og ávexti á leiðinni heim. Þetta verður góður dagur.",
    ),
    "German": (
        ("cp1252", "iso-8859-15"),
        "Passwörtern: äöü ÄÖÜ ß",
        "Die Öffnungszeiten der Geschäftsstelle: montags bis freitags außer an Feiertagen. "
        "Änderungen müssen "
        "schriftlich erklärt werden, über Ausnahmen entscheidet die Geschäftsführung. Übrigens gilt die "
        "GRÖSSE nicht.",
    ),
    "Swedish": (
        ("cp1252", "iso-8859-1"),
        "Räksmörgås på Åland",
        "Kontoret är öppet mellan nio och fem på vardagar. Återställning av lösenord görs på sidan för "
        "inställningar. Östersund, Ängelholm och Åre får nya öppettider från och med måndag.",
    ),
    "Danish": (
        ("cp1252", "iso-8859-1"),
        "Rødgrød med fløde",
        "Kontoret er åbent hver dag undtagen søndag. Ændringer af adgangskoden skal ske på siden for "
        "indstillinger. Ærø, Ølstykke og Århus får nye åbningstider fra næste måned.",
    ),
    "Finnish": (
        ("cp1252",),
        "Hyvää päivää, äiti!",
        "Toimisto on avoinna arkisin yhdeksästä viiteen. Salasanan vaihtaminen tehdään asetuksissa. "
        "Äänestys pidetään Jyväskylässä, ja työntekijöille lähetetään ilmoitus sähköpostilla.",
    ),
    "French": (
        ("cp1252", "iso-8859-15"),
        "Déjà vu à l'école",
        "L'été dernier, nous avons déjà mangé des pâtes à l'hôtel. Où est la clé ? Elle a été laissée à la "
        "réception. Ça ne fait rien, répondit-elle ; le garçon l'apportera bientôt. À "
        "bientôt, chère Éloïse.",
    ),
    "Spanish": (
        ("cp1252", "iso-8859-1"),
        "¿Dónde está el baño?",
        "El año pasado la compañía abrió una oficina en Málaga. ¿Cuándo cambiará usted la contraseña? "
        "Las reuniones serán los miércoles a las nueve de la mañana. ¡Qué rápido pasó el otoño!",
    ),
    "Portuguese": (
        ("cp1252", "iso-8859-1"),
        "Não há pão nem maçã.",
        "As alterações não são possíveis após a confirmação. A reunião começará às nove horas da manhã na "
        "sala três. Então, por favor, traga os relatórios de avaliação e as informações do avô João.",
    ),
    "Italian": (
        ("cp1252",),
        "Perché no? È così.",
        "La città è bella, però il caffè è già freddo. Perché non può venire più tardi? "
        "Lunedì c'è la riunione; "
        "martedì andrò all'università. È la verità.",
    ),
    "Polish": (
        ("cp1250", "iso-8859-2"),
        "Zażółć gęślą jaźń",
        "Biuro jest otwarte od poniedziałku do piątku. Zmiana hasła wymaga zgody kierownika. "
        "Proszę przesłać "
        "zgłoszenie pocztą elektroniczną; odpowiedź przyjdzie w ciągu tygodnia. Łódź, Gdańsk "
        "i Świnoujście.",
    ),
    "Czech": (
        ("cp1250", "iso-8859-2"),
        "Příliš žluťoučký kůň",
        "Kancelář je otevřena každý všední den. Změnu hesla provedete v nastavení účtu. Žádost musí být "
        "podána písemně a schválena vedoucím oddělení. Příští schůze se koná ve středu večer.",
    ),
    "Hungarian": (
        ("cp1250", "iso-8859-2"),
        "Árvíztűrő tükörfúrógép",
        "Az iroda hétfőtől péntekig tart nyitva. A jelszó módosítása a beállítások között "
        "történik. A kérelmet "
        "írásban kell benyújtani, és a vezető hagyja jóvá. Győr, Üllő és Érd új nyitvatartást kap.",
    ),
    "Turkish": (
        ("cp1254", "iso-8859-9"),
        "Şişli'de güneşli bir gün",
        "Ofis hafta içi her gün açıktır. Şifrenizi değiştirmek için ayarlar sayfasına "
        "gidiniz. İzin başvurusu "
        "yazılı olarak yapılmalı ve müdür tarafından onaylanmalıdır. Çalışanlar yılda otuz gün izin alır.",
    ),
    "Lithuanian": (
        ("cp1257",),
        "Ąžuolas žydi pavasarį",
        "Biuras dirba kiekvieną darbo dieną. Slaptažodį galite pakeisti nustatymų puslapyje. "
        "Prašymas turi būti "
        "pateiktas raštu ir patvirtintas vadovo. Šiaulių ir Panevėžio gyventojai apie tai sužinos vėliau.",
    ),
    "Latvian": (
        ("cp1257",),
        "Glāžšķūņa rūķīši",
        "Birojs ir atvērts katru darba dienu. Paroli var nomainīt iestatījumu lapā. Iesniegums jāiesniedz "
        "rakstiski, un to apstiprina vadītājs. Nākamā sanāksme notiks trešdien plkst. deviņos.",
    ),
    "Russian": (
        ("cp1251", "koi8-r"),
        "Привет, мир",
        "Каждый сотрудник имеет право на тридцать дней отпуска. Заявление подаётся в письменной форме и "
        "утверждается руководителем отдела. ВНИМАНИЕ: пароль следует менять каждые три месяца.",
    ),
    "Ukrainian": (
        ("cp1251",),
        "Їжак їсть яблука",
        "Кожен працівник має право на тридцять днів відпустки. Заява подається у письмовій формі та "
        "затверджується керівником відділу. Зміна пароля здійснюється на сторінці "
        "налаштувань. Її ім'я Ганна.",
    ),
    "Bulgarian": (
        ("cp1251",),
        "Добър ден, колеги",
        "Всеки служител има право на тридесет дни отпуск. Молбата се подава писмено и се одобрява от "
        "ръководителя на отдела. Паролата се сменя на страницата с настройките.",
    ),
    "Greek": (
        ("cp1253", "iso-8859-7"),
        "Καλημέρα κόσμε",
        "Το γραφείο είναι ανοιχτό κάθε εργάσιμη ημέρα. Η αλλαγή του κωδικού γίνεται στη σελίδα ρυθμίσεων. "
        "Κάθε υπάλληλος δικαιούται τριάντα ημέρες άδεια τον χρόνο, μετά από γραπτή αίτηση.",
    ),
    "Hebrew": (
        ("cp1255",),
        "שלום עולם, מה שלומך היום?",
        "המשרד פתוח בכל יום עבודה. שינוי הסיסמה מתבצע בדף ההגדרות. כל עובד זכאי לשלושים ימי "
        "חופשה בשנה לאחר "
        "הגשת בקשה בכתב ואישור המנהל.",
    ),
    "Arabic": (
        ("cp1256",),
        "مرحبا بالعالم",
        "المكتب مفتوح كل يوم عمل. يتم تغيير كلمة المرور في صفحة الإعدادات. يحق لكل موظف "
        "ثلاثون يوما من الإجازة "
        "في السنة بعد تقديم طلب كتابي وموافقة المدير.",
    ),
    "Thai": (
        ("cp874",),
        "สวัสดีชาวโลก",
        "สำนักงานเปิดทุกวันทำการ การเปลี่ยนรหัสผ่านทำได้ในหน้าการตั้งค่า พนักงานทุกคนมีสิทธิ์ลาพักร้อนสามสิบวันต่อปี",
    ),
    "Simplified Chinese": (
        ("gb18030",),
        "你好，世界",
        "每位员工每年享有三十天假期。请假须提前三个工作日以书面形式申请，并由部门负责人批准。",
    ),
    "Traditional Chinese": (
        ("big5",),
        "你好，世界",
        "每位員工每年享有三十天假期。請假須提前三個工作日以書面形式申請，並由部門負責人批准。",
    ),
    "Japanese": (
        ("shift_jis", "euc_jp"),
        "こんにちは世界",
        "従業員は毎年三十日の休暇を取ることができます。申請は書面で行い、部長が承認します。",
    ),
    "Korean": (
        ("euc_kr",),
        "안녕하세요 세계",
        "모든 직원은 매년 삼십 일의 휴가를 받습니다. 신청은 서면으로 하고 부장이 승인합니다.",
    ),
}
"""By language: the encodings, a few words, a few sentences."""

SAMPLES = [
    (f"{language}-{encoding}-{size}", encoding, text)
    for language, (encodings, short, long) in LANGUAGES.items()
    for encoding in encodings
    for size, text in (("short", short), ("long", long), ("file", f"{long}\n{short}\n" * 40))
]

SENTENCES = [
    ("cp1252", "Hún kom heim í gærkvöldi og sagði okkur frá ferðinni."),
    ("cp1252", "Für größere Bestellungen gewähren wir Rabatt."),
    ("cp1252", "Grüße aus München"),
    ("cp1252", "Jag förstår inte frågan"),
    ("cp1252", "Les employés ont été prévenus hier."),
    ("cp1252", "Il prezzo è più alto"),
    ("cp1252", "Mañana será otro día"),
    ("cp1252", "Não sei se você já comeu"),
    ("cp1252", "Smørrebrød og øl"),
    ("cp1252", "Työntekijät ovat lomalla heinäkuussa."),
    ("cp1250", "Dziękuję bardzo za pomoc"),
    ("cp1250", "Děkujeme za vaši objednávku"),
    ("cp1250", "Köszönöm szépen a segítséget"),
    ("cp1250", "Ďakujem za rýchlu odpoveď"),
    ("cp1250", "Hvala što ste nas posjetili, želimo vam sreću"),
    ("iso-8859-2", "Książka leży na półce w pokoju"),
    ("cp1254", "Teşekkür ederim, çok iyiyim"),
    ("cp1254", "Ağaçların altında oturduk"),
    ("cp1257", "Ačiū už jūsų užsakymą"),
    ("cp1257", "Paldies par jūsu pasūtījumu"),
    ("cp1251", "Спасибо за заказ"),
    ("cp1251", "Дякуємо за ваше замовлення"),
    ("koi8-r", "Документы лежат на столе"),
    ("cp1253", "Ευχαριστώ πολύ για τη βοήθεια"),
    ("cp1255", "תודה רבה על ההזמנה שלך"),
    ("cp1256", "شكرا جزيلا على طلبك"),
    ("cp874", "ขอบคุณมากสำหรับการสั่งซื้อ"),
    ("gb18030", "感谢您的订购，我们会尽快发货"),
    ("big5", "感謝您的訂購，我們會儘快出貨"),
    ("shift_jis", "ご注文ありがとうございます"),
    ("euc_kr", "주문해 주셔서 감사합니다"),
    ("cp866", "Спасибо за ваш заказ, документы готовы"),
    ("cp1252", "Cœur brisé"),
    ("cp1252", "Preis: 5 € für alle"),
]
"""More of them, by encoding, which nothing was tuned by when they were first tried."""

SIGNS = [
    "Copyright © 2020 Foo",
    "# Copyright © 1999-2004 The Regents\nkey = value\n",
    "© 2001 A\n© 2002 B\n© 2003 C\n",
    "Foo©",
    "Acme® is a registered trademark",
    "Total: £10",
    "Loss of £5m and £10m",
    "name,price\napple,£1\npear,£2\nplum,£3\n",
    "¥500 per night",
    "price 5 ¢ each",
    "20 € per day",
    "100 ± 5 g",
    "37.5°C ± 0.2°C",
    "Turn 90° left",
    "area of 30 m² per room",
    "x² + y² = z²",
    "§ 1 Scope\n§ 2 Terms\n",
    "10 µm filter",
    "Add 1½ cups of flour",
    "¾ of all users",
    "3 × 4 matrix",
    "10 ÷ 2 = 5",
    "A1\xa0100",
    "5\xa0000 units",
    "Hello\xa0world",
    "¶ end of paragraph",
    "Nº 5",
    "it’s a test",
    "“quoted” – and ‘single’…",
    "• first item\n• second item\n",
]
"""English with one kind of sign outside ASCII, in Latin-1 or Windows-1252."""

ACCENTED = """
château crêpe naïve façade résumé Zürich café cliché déjà protégé soufflé née señor piñata
Málaga São Köln Nîmes Düsseldorf Göteborg Århus Øresund smörgåsbord doppelgänger Citroën
Chloë André François Müller Núñez Håkan Strauß vis-à-vis maître pâté rôle hôtel île
tête-à-tête fête Québec ångström brûlée façades
"""
"""Western words that English has taken in."""

NAMES = {
    "gb18030": (
        "胡 张 王 李 刘 陈 杨 赵 黄 周 吴 徐 孙 朱 马 郭 林 何 高 梁 郑 罗 宋 谢 唐 韩 冯 于 董 萧 程 "
        "曹 袁 邓 许 欧阳 诸葛",
        "晨婷 伟 芳 娜 洋 静 磊 敏 强 丽 琳 涛 峰 雪 翔 燕 凯 斌 佳 莹 欣怡 梅 建国 晓东 洁 思远 雨薇 "
        "志强 浩然 宇航 秀英 子轩",
    ),
    "big5": (
        "陳 林 黃 張 李 王 吳 劉 蔡 楊 許 鄭 謝 洪 郭 邱 曾 廖 賴 徐 周 葉 蘇 莊 江 呂 何 羅 高 蕭 潘 "
        "簡 朱 鍾 彭 游 詹 胡 施 沈",
        "怡君 志明 淑芬 家豪 美玲 建宏 雅婷 俊傑 佩珊 宗翰 文雄 麗華 欣怡 啟文 國城 若瑄 冠宇 詩涵 "
        "承恩 宜蓁 秀蓮 志祥 瑋柏 靜茹",
    ),
    "cp932": (
        "佐藤 鈴木 高橋 田中 伊藤 渡辺 山本 中村 小林 加藤 吉田 山田 佐々木 山口 松本 井上 木村 斎藤 "
        "清水 山崎 森 池田 橋本 阿部 菊地",
        "健 一郎 花子 陽菜 翔太 美咲 さくら 大輔 直樹 由美子 恵子 拓也 葵 蓮 健太 愛 和子 誠 真理 "
        "裕子 浩 明美 学 達也 ひなた 遼 茂",
    ),
    "euc_kr": (
        "김 이 박 최 정 강 조 윤 장 임 한 오 서 신 권 황 안 송 류 홍 전 고 문 양 손 배 백 허 남궁 심",
        "민준 서연 지훈 수빈 예은 동원 현우 아름 미란 영웅 가인 세훈 태희 상우 정민 재욱 강호 지현 "
        "길동 석진 소영 성민 은지 하늘",
    ),
    "cp1251": (
        "Иван Петр Сидор Кузнец Поп Василь Соколь Михайл Новик Фёдор Мороз Волк Алексе Лебед Семён "
        "Егор Павл Козл Степан Орл",
        "ов ова ев ева ин ина ский ская енко",
    ),
}
"""By encoding, halves that names of people are made of."""
