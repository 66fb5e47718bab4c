"""Whether a text opens with a refusal, in nine languages."""

from __future__ import annotations

import re

_APOLOGY = (
    r"(?:(?:(?:i['’]?m|i am|we['’]?re|we are)?\s?(?:very |so |really )?(?:sorry|afraid)|i (?:do )?apologi[sz]e"
    r"|unfortunately)\b[^a-z]{0,3}(?:but |that )?)?"
)
_CANNOT = (
    r"(?:can['’]?t|cannot|can not|won['’]?t|will not"
    r"|(?:am|['’]m|are|['’]re) (?:not able|unable) to|(?:am|['’]m) not going to)"
)
_ACT = (
    r"(?:help|assist|comply|fulfil+|provide|create|generate|answer|do (?:that|this)|write|discuss|share|support|engage)"
)
_ENGLISH = (
    r"(?:as an? (?:ai|(?:large )?language model|(?:ai )?assistant)\b.{0,60}?,\s)?"
    + _APOLOGY
    + r"(?:i|we)\s?(?:"
    + r"(?:can only|(?:am|['’]m|are|['’]re) only able to) (?:answer|help|assist|discuss|respond|talk|support)\b"
    + rf"|{_CANNOT}\s(?:be able to |in good conscience )?{_ACT}\b"
    + r"|(?:must|have to|need to|['’]ll have to) (?:respectfully |politely )?decline\b"
    + r"|(?:['’]m| am) not comfortable (?:with )?(?:helping|assisting|providing|writing|creating|answering)\b)"
)
# In the other languages too, a refusal is about an act of answering: "no puedo ir" is none.
_OTHERS = (
    r"(?:es )?tut mir (?:sehr )?leid,? (?:aber )?(?:ich kann|dabei kann|das kann|diese)\b[^.]{0,60}\bnicht\b",
    r"ich kann (?:dir|ihnen|euch) (?:dabei|damit|hierbei|bei dieser (?:anfrage|bitte)) (?:leider )?nicht helfen",
    r"(?:je suis )?désolée?[^.]{0,30}je ne (?:peux|puis) pas (?:\w+ |t')?(?:aider|répondre|fournir|faire|créer|écrire)",
    r"je ne (?:peux|puis) pas (?:vous |t')?(?:aider|répondre|fournir)",
    r"(?:lo (?:siento|lamento)[^.]{0,20},? (?:pero )?)?no puedo "
    r"(?:ayudar|asistir|proporcionar|responder|cumplir|hacer eso|compartir|generar|crear)",
    r"(?:mi dispiace[^.]{0,20},? (?:ma )?)?non posso (?:aiutar|fornir|risponder|soddisfar|crear|generar)",
    r"(?:(?:sinto muito|desculpe|lamento)[^.]{0,20},? (?:mas )?)?(?:eu )?não posso "
    r"(?:(?:te |lhe )?ajud|fornecer|responder|atender|criar|gerar)",
    r"(?:het spijt me|sorry),? (?:maar )?(?:daar |hier )?(?:ik kan|kan ik)[^.]{0,30} niet[^.]{0,20}"
    r"(?:help|beantwoord|geven)",
    r"(?:很?抱歉|对不起|對不起)[^。]{0,10}(?:不能|无法|無法)[^。]{0,10}(?:提供|帮|幫|回答|协助|協助|满足|完成)",
    r"(?:申し訳(?:ありません|ございません)|すみません)[^。]{0,30}(?:できません|できかねます|いたしかねます)",
)
_REFUSAL = re.compile(rf"\W{{0,3}}(?:{'|'.join((_ENGLISH, *_OTHERS))})", re.IGNORECASE)


def declines(text: str) -> bool:
    """The text opens with a refusal."""
    return _REFUSAL.match(text[:300].lstrip()) is not None
