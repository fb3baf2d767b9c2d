"""The language of a text: en, hi (Devanagari), hinglish (Hindi mixed with English), or other.

A rule, not a model: Devanagari letters are Hindi, Latin words of a list below are romanised Hindi, the
rest of the Latin words count as English. Function words and common verbs make up the list, with the
spellings people use; a word that is English as well (me, to, main, hi, are, par) is not on it, so a very
short text of such words alone is called English. Marathi and Nepali are called Hindi. Names count as
English. The shares that decide were chosen on training sets; benchmarks/language_tags.py measures them on
sets that were held out.
"""

import re
from functools import cache
from typing import Literal

Language = Literal["en", "hi", "hinglish", "other"]
LANGUAGES: tuple[Language, ...] = ("en", "hi", "hinglish", "other")
WORD = re.compile(r"[\u0900-\u0963\u0970-\u097f\u200c\u200d]+|[A-Za-z]+(?:['\u2019][A-Za-z]+)?|[^\W\d_]+")
HINDI_SHARE = 0.07
"""Hindi words among all, at least, in a text that is called hinglish."""
DEVANAGARI_SHARE = 0.8
"""Devanagari words among all, at least, in a text that is called hi."""
OTHER_WORDS, ENGLISH_SHARE = 20, 0.06
"""Latin words from which a text without this share of English function words is called other."""

FUNCTION_WORDS = """
    hai hain hoon hun hu tha thi thay hoga hogi honge hua hui huye hue huwa hona hone hota hoti hote ho hoke
    ka ki ke ko kaa kee mein mei meh mai se pe tak liye lie waste wala wali wale vala vali vale waala
    aur ya lekin magar agar toh phir fir kyunki kyuki kyonki isliye jab jabki tabhi ki joh jo jis jise jiska
    nahi nahin nhi nai naheen nahe mat haan haa han ji jee bhi bhee sirf bas hee
    yeh yah ise isko iska iski iske isse isme inka inko inke woh wo vah voh uska uski uske usko
    usse usme unka unki unke unko koi koee koye kisi kuch kuchh kch sab sabhi sabko sabse har ek eik
    mera meri mere meraa mujhe muje mujhko mujhey mjhe maine humne hume humein hamara hamare hamari hum
    aap aapka aapki aapke aapko aapne apka apki apke apko apne apna apni tum tumhara tumhare tumko tumhe tera
    teri tere tujhe unhe unhone inhone kya kyaa kyu kyun kyon kyo kaun kon kaunsa kaunse kaunsi konsa konse
    kab kaha kahan kidhar kaise kaisa kaisi kese kitna kitne kitni kis kiska kiske kisko kaisey kesa kesi
    yaha yahan waha wahan yahi wahi idhar udhar abhi abi aaj kal parso pehle pahle baad bahut bohot bhot bahot
    zyada jyada thoda thodi kam jaldi jldi bilkul theek thik thk accha acha achha achaa achhi achi achcha
    badiya sahi galat naya naye nayi purana purane pura puri poora poori bada badi bade chota choti chote
    aise aisa aisi waise jaise jaisa jaisi tarah taraf saath sath paas pas bina andar bahar upar neeche niche
    gaya gayi gaye gya gyi gye raha rahi rahe rha rhi rhe chahiye chaiye chahie chahta chahti chahte chaahiye
    sakta sakti sakte skta skti skte paisa paise pese paisey rupaye rupay rupya raat subah shaam sham
    dopahar baje bajhe ghante mahine hafte saal samay waqt baar dobara dubara ghar kaam baat cheez jagah
    naam khana khaana gaana gaane mausam baarish barish shehar shahar rasta raasta yaad madad matlab pata
    wajah zaroorat zarurat jarurat dikkat pareshan galti shikayat khata khaata dukaan udhaar kiraya byaaj
    namaste namaskar dhanyavaad dhanyawad dhanyavad shukriya swagat alvida kripya kripaya maaf bhai yaar
    zaroor zarur jarur turant wapas vapas wapis intezaar jawab sawal chalu shuru khatam khatm
    kiya kia kiye kiyaa diya diye dia liya lia aaya aaye aayi aya aayega aayegi ayega jayega jayegi jaega
    jaye jaana jaane kar karke karna karne karni karo karu karun kare karta karti karte kr krna krne kro krke
    kardo kardijiye kijiye kijiyega kariye karenge karunga karungi karega karegi karwana karvana karao
    dikha dikhao dikhaye batao bata bataye batayen bataiye batana batane btao btaiye dijiye dedo dena deta
    deti dete dekho dekh dekhna dekhne lena lene lijiye lagta lagti lagega lagegi lagao laga lage lagaye
    milna mila mili milta milti milega milegi milenge milne bhejo bheja bheje bhejne bhejna bhej chal chalta
    chalega chalao rakho rakhna rakhe bolo bola bolna bol samajh samjha suno sunao sunna suniye hatao hatado
    hata banao banaye badal badlo badalna badle rok roko rokna kholo khol khulta kholna jao jaunga
    jata jati jate aana aane aata aati aate nikal nikalna nikalta pahunch pahunchne pahuchne khareedna
    dhundh dhund dhoondh dhoond dhundho doond bajao bajaye gira katna kate kat gaye puchna puchho pucho
    likho likha likhna padhna padho sochna raho rahega rahegi rehna padega padegi padta uthao uthata
"""
ENGLISH_WORDS = """
    the of and to a in is it that for on with as was be are this at by from or an have not he his you they
    i my we she her which but had has will would can do does did what when where how who there if so me your
    please all no its their were been one more about into any some than then them could should
"""
VERB_STEMS = """
    kar bata dikha laga bhej chal hata bana badal rakh dekh bol khol puch samajh likh nikal pahunch pahuch
    dhundh dhoond khareed bhul bhool chuka lauta chaah chah utha jaanch parakh sambhal ghuma bula khila
"""
VERB_ENDINGS = "na ne ni o en ein ta te ti iye iyega unga ungi oonga enge ege egi ega oge ke kar do dijiye"
ENGLISH = frozenset(ENGLISH_WORDS.split())


@cache
def hindi_words() -> frozenset[str]:
    """Return the romanised Hindi words: the list, and the verbs with their endings."""
    listed = frozenset(FUNCTION_WORDS.split())
    verbs = {stem + ending for stem in VERB_STEMS.split() for ending in VERB_ENDINGS.split()}
    return (listed | verbs) - ENGLISH


def count_words(text: str) -> tuple[int, int, int, int, int]:
    """Count a text's words: (Devanagari, romanised Hindi, other Latin, English function, other scripts)."""
    devanagari = romanised = latin = english = other = 0
    hindi = hindi_words()
    for word in WORD.findall(text):
        if "\u0900" <= word[0] <= "\u097f":
            devanagari += 1
        elif not word.isascii() and not word[0].isascii():
            other += 1
        elif (plain := word.lower()) in hindi:
            romanised += 1
        else:
            latin += 1
            english += plain in ENGLISH
    return devanagari, romanised, latin, english, other


def tag(text: str) -> Language:
    """Tell the language of a text; one without words is other."""
    devanagari, romanised, latin, english, other = count_words(text)
    total = devanagari + romanised + latin + other
    if total == 0 or other > total / 2:
        return "other"
    if devanagari >= DEVANAGARI_SHARE * total:
        return "hi"
    if devanagari + romanised >= HINDI_SHARE * total:
        return "hinglish"
    return "other" if latin >= OTHER_WORDS and english < ENGLISH_SHARE * latin else "en"


def code_mixing_index(text: str) -> float:
    """Return the code-mixing index of Das and Gambäck 2014, 0 (one language) to 50 (half and half).

    100 x (1 - words of the larger language / words of both); numbers and other scripts are of neither.
    """
    devanagari, romanised, latin, _, _ = count_words(text)
    hindi = devanagari + romanised
    return 100 * (1 - max(hindi, latin) / (hindi + latin)) if hindi + latin else 0.0
