"""What personal data looks like in Indian payment texts: the expressions that redact.py searches with.

Written for text whose digits, dashes and spaces are ASCII already and whose zero-width characters are
gone. Each is an over-reach on purpose where a miss costs more than a placeholder too many.
"""

import re

GAP = r"[ \-.]{0,3}"  # what people put between digits
START, END = r"(?<![0-9A-Za-z])", r"(?![0-9])"
NUMBER = re.compile(rf"{START}[0-9](?:{GAP}[0-9]){{8,18}}{END}")
PHONE = re.compile(
    rf"(?<![0-9A-Za-z])(?:\(?(?:\+|00)?91\)?{GAP}|0{GAP})?\(?[6-9](?:\)?{GAP}[0-9]){{9}}{END}"
    r"|(?<![0-9A-Za-z])\+[1-9][0-9]{0,2}[ \-]?[0-9](?:[ \-]?[0-9]){6,11}(?![0-9])"
)
PAN = re.compile(  # the fourth letter is the kind of holder; spread out only in capitals
    rf"{START}(?:[A-Za-z]{{3}}[abcfghjlptABCFGHJLPT][A-Za-z](?=[Oo]{{0,2}}[0-9])[0-9Oo]{{4}}[A-Za-z]"
    rf"|[A-Z]{{3}}[ABCFGHJLPT][A-Z]{GAP}[0-9]{{4}}{GAP}[A-Z])(?![0-9A-Za-z])"
)
IFSC = re.compile(  # in small letters only with six digits: the video `watch?v=SfII0I49QEE` is none
    rf"{START}(?<!v=)(?:[A-Z]{{4}}[ -]?0[ -]?[A-Z0-9]{{6}}|[A-Za-z]{{4}}[ -]?[0Oo][ -]?[0-9]{{6}})"
    r"(?![0-9A-Za-z])"
)
DOT = r"(?:\.|\s?[(\[]?\bdot\b[)\]]?\s?)"
LOCAL = r"[\w.+-]{1,64}"
"""As much as an address may have (RFC 5321); without an end, a long blob would take its length squared."""
EMAIL = re.compile(
    rf"{LOCAL}(?:\s?@\s?|\s?[(\[]at[)\]]\s?)(?:[\w-]+{DOT})+(?:com|in|org|net|co|me|edu|gov|info|io|ai)\b"
    rf"|{LOCAL}\sat\s(?:(?:[\w-]+\s?[(\[]?\bdot\b[)\]]?\s?)+\w{{2,4}}\b"  # "works at space.com" is no address
    rf"|(?:gmail|yahoo|hotmail|outlook|rediffmail|proton|icloud){DOT}(?:com|in|me|co{DOT}in)\b)"
    rf"|{LOCAL}@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{{2,}}",
    re.IGNORECASE,
)
UPI = re.compile(
    r"[\w.+-]{2,64}@[A-Za-z][A-Za-z0-9]+"
    r"|[\w.+-]{2,64} ?@ ?(?:ok\w+|ybl|ibl|[ay]xl|apl|upi|paytm|pt\w+|freecharge|ikwik|jio|slice|airtel"
    r"|\w*(?:bank|axis|icici|hdfc|sbi|kotak|pay))\b"
    r"|[\w.+-]{2,64} at (?:ok(?:axis|sbi|icici|hdfcbank)|ybl|ibl|axl|apl|ptsbi|ptaxis)\b",
    re.IGNORECASE,
)
SECRET = re.compile(
    r"\b(otp|cvv|cvc|m-?pin|upi pin|atm pin|pin|passcode|ओटीपी|सीवीवी|पिन)\b"
    r"((?:\s*(?:is|hai|h|ka|ki|number|no|code|aaya|aya|tha|है|:|=|-|#)){0,4}\s*)([0-9]{3,8})(?![0-9])",
    re.IGNORECASE,
)
ACCOUNT_CUE = re.compile(
    r"a/?c\b|\bac+o?u?n?t|\bacc?\b|khat[ae]|khaat[ae]|खात[ाे]|अकाउंट|benef\w* ?[:=]|customer id|\bcif\b|\bcrn\b"
    r"|\b(?:loan|policy|wallet|folio|consumer) (?:id|no|num|number)\b|(?:लोन|पॉलिसी) (?:नंबर|संख्या)",
    re.IGNORECASE,
)
CARD_CUE = re.compile(r"card|कार्ड|\bvisa\b|master|rupay", re.IGNORECASE)
AADHAAR_CUE = re.compile(r"a+dh?aa?r|आधार|\buid\b", re.IGNORECASE)
REFERENCE_CUE = re.compile(  # what stands right before an order's or a payment's own number
    r"(?:\bnarr=\w+/|\b(?:rrn|utr|txn|ref|reference|transaction|order|arn)"
    r"(?:[_ .]{0,2}(?:id|no|num|numb?er|code|ref|reference|txn|order|is|hai|your|my))*)"
    r"[\s:=#.\d\"'>-]{0,14}$",  # a quote or a bracket: a JSON key, an XML tag
    re.IGNORECASE,
)
AMOUNT_CUE = re.compile(r"(?:\brs\.?|\binr|\u20b9|\bamt|\bamount)[ =:]{0,2}$", re.IGNORECASE)
DATE = re.compile(
    r"(?:19|20)[0-9]{2}([-./ ])(?:0[1-9]|1[0-2])\1[0-3][0-9](?![0-9])|[0-3][0-9][-./][01][0-9][-./]20[0-9]{2}"
)
ORDER = re.compile(r"(?<![0-9])[0-9]{3}-[0-9]{7}-[0-9]{7}(?![0-9])")
CARD_START = re.compile(
    r"3[47]|4|5[0-9]|2[2-7]|6[0-9]|8[1-2]"
)  # ISO 7812 issuers in use, RuPay's 81 and 82 too
MISREAD = re.compile(
    r"(?<![A-Za-z0-9])(?=(?:[^0-9]{0,3}[0-9]){7})[0-9OoIl](?:[ -]?[0-9OoIl]){8,18}(?![A-Za-z0-9])"
)
DIGIT_WORDS = """
    zero one two three four five six seven eight nine oh double triple shunya sifar ek do teen tin char chaar
    paanch panch chhe chhah saat sat aath ath nau no शून्य एक दो तीन चार पांच पाँच छह छः छे सात आठ नौ डबल
"""
SPOKEN = re.compile(
    rf"(?<!\w)(?:{'|'.join(DIGIT_WORDS.split())})(?:[ ,\-]{{1,2}}(?:{'|'.join(DIGIT_WORDS.split())})){{7,}}"
    r"(?![\w\u0900-\u097f])",
    re.IGNORECASE,
)
CUE_BEFORE, CUE_AFTER = 32, 16
