"""Find people's names by the words around them, in English, Hinglish and Hindi.

A cue and up to three words: "mera naam ramesh kumar hai", "Shri Ramesh Kumar", "payer_name=RAMESH".
Not a recogniser of names: a name that no cue announces is not found, and a shop behind `payee=` is
taken for a shop.
"""

import re
from collections.abc import Iterator

LETTER = r"[A-Za-z\u0900-\u0963\u0970-\u097f]"
WORD = rf"{LETTER}(?:{LETTER}|['’])*+(?![\w=:@])"
MY = r"(?:me*ra+|mra|mere|meri|hamara|apna|मेरा|हमारा|अपना)"
NAAM = r"(?:naa*m|name|नाम)(?!\w)"
IS = r"(?:hai+n?|h|he|is|है|हैं)"
FULL = r"(?:pu*ra |poora |full |good |पूरा )?"
ROLE = r"(?:customer|payer|payee|sender|receiver|beneficiary|benef|holder|nominee|remitter|cust|acct?)"
ROLE_ALONE = r"(?:customer|payer|sender|receiver|beneficiary|benef|holder|nominee|remitter)"
AFTER = re.compile(
    rf"(?<!\w)(?:{MY} {FULL}{NAAM}(?: toh?)?(?: {IS}(?!\w))?"
    rf"|my {FULL}name(?:'s| {IS}(?!\w))"
    rf"|(?:{ROLE}[_ ]?)?{NAAM}[\"']?\s*[:=>]"  # also a JSON key and an XML tag
    rf"|{ROLE_ALONE}[\"']?\s*[:=>]"
    rf"|{ROLE}[_ ]{NAAM}(?: {IS}(?!\w))?)\s*[\"']?",
    re.IGNORECASE,
)
NAAM_IS = re.compile(  # "name recognition is" is English prose: the verb must be Hindi
    rf"(?<!\w){NAAM} (?=((?:{WORD}[ .]+){{1,3}})(?:hai+n?|h|he|है|हैं)(?!\w))", re.IGNORECASE
)
TITLE = re.compile(
    r"(?<!\w)(?:(?:Mrs?|Ms|Dr|Shri|Shree|Sri|Smt|Shrimati|Kumari)(?!\w)\.?|Kum\.|(?:श्री|श्रीमती|सुश्री|कुमारी|प्रिय)"
    r"|डॉ\.?) ",
    re.IGNORECASE,
)
# Where a small letter would make it no name: "Dear RAMESH KUMAR", "Regards, Priya", "I am Priya Nair".
CAPITALS = re.compile(
    r"(?<!\w)(?:[Dd]ear |[Nn]ame(?: (?:on|in|of) (?:the )?\w+)? is "
    r"|(?:[Rr]egards|[Ss]incerely|[Ff]aithfully),?\s+"
    r"|(?:I am|I'm|[Mm]yself) (?=[A-Z]\w+ [A-Z]))(?=[A-Z])|(?:^|[.!?,] )[Mm]yself (?=[A-Z])"
)
# A bank's narration and its SMS: "UPI/P2A/432187654321/RAMESH KUMAR/HDFC", "credited from RAMESH KUMAR".
NARRATION = re.compile(r"(?:UPI|IMPS|NEFT)/(?:[A-Z0-9]+/){0,2}[0-9]{12}/(?=[A-Z])")
PAID = re.compile(
    r"(?:[Pp]aid|[Ss]ent|[Rr]eceived|[Cc]redited|[Dd]ebited|[Tt]ransferred|[Tt]rf)"
    r"[^.;\n]{0,40}? (?:to|from|by) (?=[A-Z]{2,} [A-Z]{2,})"
)
SPEAKING = re.compile(r" (?:bol|ba+t (?:kr|kar|कर)|speaking|बोल|बात)(?!\w)", re.IGNORECASE)
SPEAKER = frozenset(("main", "mai", "mein", "me", "i'm", "im", "am", "मैं"))
INTRODUCES = (
    re.compile(  # "Priya Sharma bol rahi hoon": in the first person, so a name may stand without "main"
        r" (?:bol|ba+t kar) rah[ai] (?:hoo?n|hu+n?)(?!\w)| (?:बोल|बात कर) रह[ाी] हू[ँं]", re.IGNORECASE
    )
)
NO_SPEAKER_WORDS = """
    sach jhooth jhoot saaf seedha phir fir baar hindi english सच झूठ साफ फिर बार हिंदी हिन्दी
"""
NO_SPEAKER = frozenset(NO_SPEAKER_WORDS.split())
THIS_IS = re.compile(rf"(?<!\w)this is (?=(?:{WORD} ){{1,3}}(?:here|speaking|calling)(?!\w))", re.IGNORECASE)
OWN_NAME = re.compile(rf" (?:ke|k|के) {NAAM} (?:{IS}|se|ka|ke|par|pe|से|का|के|पर)(?!\w)", re.IGNORECASE)
RESPECT = re.compile(r" (?:ji|जी)(?!\w)", re.IGNORECASE)
REACH = 60
# Words that stand where a name could and are none; a name ends before the first of them.
STOP_WORDS = """
    hai h he hain hoon hu hun ho tha thi the to toh aur or and par pe per se ka ke ki ko ne mein me mai
    main mera mere meri my i is am are was a an of in on at for from with this that not no nahi nahin nhi
    nai kya kyu kyun kaise kab galat wrong correct sahi change changed update updated spelling likha
    likho badal badla badalna karna karo kar kiya kar match mismatch aa aata aaya aya raha rahi show
    bhi hi abhi please plz sir madam bhai bhaiya yaar ji haan ok okay hello hi hey namaste dhanyavaad
    thanks thank shukriya sorry bol bolo bolna speaking here there your you aap aapka aapke aapki tum
    account card loan bank number no id name naam nam upi payment amount paisa paise rs inr refund kyc
    customer care team support status pending failed success what which who it he she they we so but
    today kal aaj very still already just only one all same done usi us uske iske unke jiske kis kiske
    pata chal sakta sakte kaun chahiye likhna dena diya lena de do milega hoga
    isi dusre doosre kisi apne hamare mummy papa wife husband bhai behen didi bahut phone mobile email
    mail aadhaar aadhar pan ifsc otp pin dekho dekhiye batao bataiye suniye sun call called now
    है हैं हूँ हूं हो था थी थे और पर से का के की को ने में मैं मेरा मेरे मेरी नाम नहीं गलत सही बदलना क्या अभी भी ही
    ref txn avl bal vpa user valued friend all cardholder merchant partner holder member sirs amazon mam maam
    both everyone जानते बता बताइए बताएं लिखा लिखें
    team ltd pvt limited store stores india customers family folks
    job naukri lottery hatwana hatana badalwana helo namaskar pranam adaab हैलो हेलो नौकरी
    हाँ हां नमस्कार ठीक अच्छा माफ़ बिल्कुल ग्राहक महोदय पिता माता भाई बहन अब कृपा बस
    जी बोल बात खाता खाते कार्ड बैंक नंबर आप आपका आपके कृपया सर धन्यवाद नमस्ते
"""
STOP = frozenset(STOP_WORDS.split())


# What a text must hold for an expression to be worth trying: finding a plain string is much faster.
BEFORE_NAMES = (
    (
        AFTER,
        [
            "nam",
            "naa",
            "नाम",
            "customer",
            "payer",
            "sender",
            "receiver",
            "benef",
            "holder",
            "nominee",
            "remitter",
        ],
    ),
    (TITLE, ["mr", "ms", "dr", "shri", "shree", "sri", "smt", "kum", "श्री", "कुमारी", "प्रिय", "डॉ"]),
    (THIS_IS, ["this is "]),
    (CAPITALS, ["dear ", "regards", "sincerely", "faithfully", "i am ", "i'm ", "myself ", "name"]),
    (NARRATION, ["upi/", "imps/", "neft/"]),
    (PAID, ["paid", "sent", "received", "credited", "debited", "transferred", "trf"]),
)


def find_names(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the names that a cue announces."""
    lower = text.lower()
    for pattern, hints in BEFORE_NAMES:
        if any(hint in lower for hint in hints):
            for match in pattern.finditer(text):
                yield from _words_after(text, match.end())
    for match in NAAM_IS.finditer(text):
        if not STOP & set(match.group(1).lower().split()):  # "naam repeat kar sakte hain"
            yield from _words_after(text, match.end())
    for match in SPEAKING.finditer(text):
        yield from _words_before(text, match.start(), only_after=SPEAKER)
    for match in INTRODUCES.finditer(text):
        for start, end in _words_before(text, match.start()):
            words = text[start:end].split()
            is_named = all(word[0].isupper() or not word.isascii() for word in words)
            if is_named and not NO_SPEAKER & set(map(str.lower, words)):
                yield start, end
    for match in OWN_NAME.finditer(text):
        yield from _words_before(text, match.start())
    for match in RESPECT.finditer(text):
        yield from _words_before(text, match.start(), most=1)


def _words_after(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Take the words from `start` up to the first stop word, three at most."""
    end = start
    for _ in range(3):
        word = re.compile(WORD).match(text, end + (end > start))
        if word is None or word.group().lower() in STOP:
            break
        end = word.end()
        if text[end : end + 1] not in (" ", "."):
            break
    if end > start:
        yield start, end


def _words_before(
    text: str,
    end: int,
    *,
    most: int = 3,
    only_after: frozenset[str] | None = None,
) -> Iterator[tuple[int, int]]:
    """Take the words before `end` back to a stop word, `most` at most (more where capitalised)."""
    near = max(end - REACH, 0)
    words = list(re.finditer(WORD, text[near:end]))
    start, previous = end, ""
    for count, match in enumerate(reversed(words)):
        word, previous = match.group(), match.group().lower()
        is_joined = text[near + match.end() : start] in ("", " ", ". ", ".")
        if not is_joined or previous in STOP:
            break
        if count >= 3 or (count >= most and not word[0].isupper()):
            break
        start, previous = near + match.start(), ""
    if start < end and (only_after is None or previous in only_after):
        yield start, end
