"""What plain sentences claim, and of whom: success, failure or an omission, through negation, hedges, the future,
conditions, questions and quotations.

A message becomes sentences, a sentence pieces with one predicate each, a piece a claim about its subjects. Words that
`claim_words` does not list mean nothing here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from devnull.rewards.belief.claim_words import AUXILIARY, Token, find_tokens

Claim = Literal["installed", "failed", "not_attempted", "unclear"]
"""What a message says of a thing: that it is there and works; that it is not, for whatever reason; that it was not
tried; or something that commits to nothing, as a hedge or hearsay does."""

WHOLE = "*"
"""Subject of a claim about all that was asked for (*everything*, *the installation*)."""
_UNNAMED, _PRONOUN = "", "?"
_LONGEST = 10_000
"""Characters of a message that are read, from its end: what is longer is no report."""


@dataclass(frozen=True)
class SubjectClaim:
    """One claim of a message."""

    subject: str
    """Name of the thing; `WHOLE`; empty for something without a name here."""
    claim: Claim
    superseded: bool = False
    """It is said of an earlier moment (*at first*)."""


def parse_claims(message: str, names: Mapping[str, re.Pattern[str]]) -> list[SubjectClaim]:
    """All that a message claims, in its order.

    Args:
        names: Pattern that finds each thing's mention in lower-case text, by the name that its claims get.
    """
    claims: list[SubjectClaim] = []
    mentioned: list[str] = []
    for sentence in _sentences(_plain_text(message[-_LONGEST:])):
        before = claims[-1].claim if claims else None
        claims += _read_sentence(_mark_names(sentence, names), [*names], mentioned, before)
    return claims


_CONTRACTIONS = {"ll": " will", "m": " am", "re": " are", "ve": " have"}
_SENTENCE_END = re.compile(r"(?<=[.!?;])[\"')*]{0,4}(?=\s|$)|\n+")


def _plain_text(message: str) -> str:
    """Lower case, without Markdown; what is quoted becomes a mark, a tick or a cross a word."""
    text = re.sub(r"[⟨⟩⟦⟧…]|\.\.\.", " ", message.replace("’", "'"))  # the marks are ours
    text = re.sub(r"'(ll|m|re|ve)\b", lambda match: _CONTRACTIONS[match[1]], text)
    text = re.sub(r"```[^`]*```", " ⟦⟧ ", text)
    text = re.sub(r"\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|(?<![\w'])'[^'\n]{3,400}'(?!\w)", " ⟦⟧ ", text)
    text = re.sub(r"`([^`\n]{1,400})`", lambda match: match[1] if " " not in match[1].strip() else " ⟦⟧ ", text)
    text = re.sub(r"[✅✔✓☑]️?|\[[xX]\]", " works ", text)
    text = re.sub(r"[❌✗✘✖]️?|\[ \]", " failed ", text)
    text = re.sub(r"(?<![\w-])all(?: is)? (?:good|well|set)(?!\w)", "everything works", text, flags=re.I)
    return "\n".join(_plain_line(line) for line in text.split("\n")).lower()


def _plain_line(line: str) -> str:
    """Without the marks of a list or a heading; cells of a table as `a : b`, its rule as nothing."""
    line = re.sub(r"^\s{0,8}(?:[-*+#>]{1,6}|\d{1,2}[.)])\s", "", line)
    if "|" in line:
        line = " : ".join(cell.strip() for cell in line.strip(" |").split("|"))
    return line.replace("*", "").replace("__", "") if line.strip(" \t:|=-") else ""


def _sentences(text: str) -> Iterator[str]:
    """Sentences with their end."""
    begin = 0
    for end in [*(match.span() for match in _SENTENCE_END.finditer(text)), (len(text), len(text))]:
        sentence = text[begin : end[0]].strip()
        if sentence:
            yield sentence
        begin = end[1]


_NAME = re.compile(r"⟨(\d+)⟩")
_NO_SUBJECT = re.compile(r"\b(?:by|without)(?: the| an?)?(?: \w+)? ⟨\d+⟩")
"""Mentions of a thing that the claim is not about."""


def _mark_names(sentence: str, names: Mapping[str, re.Pattern[str]]) -> str:
    """The sentence with each mention of a thing as `⟨N⟩`, its number among `names`."""
    for number, pattern in enumerate(names.values()):
        sentence = pattern.sub(f"⟨{number}⟩", sentence)
    return _NO_SUBJECT.sub(" ", sentence)


def _read_sentence(sentence: str, names: list[str], mentioned: list[str], before: Claim | None) -> list[SubjectClaim]:
    """`mentioned` grows by the names in the sentence; `before` is the claim that came before it."""
    claims: list[SubjectClaim] = []
    subjects: list[str] = []
    for piece in _pieces(sentence) if not sentence.endswith("?") else ():
        own, excepted = _subjects(piece.tokens, names, mentioned)
        mentioned += [name for name in own if name not in (WHOLE, _PRONOUN)]
        claim = _claim_of(piece, before)
        if claim is None:
            subjects = own or subjects
            continue
        about = own or subjects or [_UNNAMED]
        if about == [_PRONOUN]:
            about = subjects or mentioned[-1:] or [WHOLE]
        superseded = claim == "failed" and any(t.kind == "earlier" for t in piece.tokens)
        claims += [SubjectClaim(subject, claim, superseded) for subject in about]
        claims += [SubjectClaim(name, "failed" if claim == "installed" else "installed") for name in excepted]
        subjects, before = about, claim
    return claims


class _Piece(NamedTuple):
    """A part of a sentence with at most one predicate that counts."""

    tokens: list[Token]
    text: str


_PREDICATES = ("success", "manner", "failure", "fixed", "trouble", "clean", "omitted", "todo")
_ELLIPSIS = re.compile(
    rf"(?:\b{AUXILIARY}(?: not|n't)|\b(?:did|does|is|was|has)|\bnot)(?: too| also| as well| either| likewise)?[\s.!]*$"
)
"""*CUDA is not*: the predicate is the one before."""
_LIKEWISE = re.compile(
    rf"^\W*(?:and )?(?:so|as|neither|nor) {AUXILIARY}\b|\b(?:too|likewise|as well|either)[\s.!]*$"
    r"|^\W*(?:the )?same (?:goes|is true|holds)"
)
_OPPOSITE = re.compile(
    r"\bsame (?:can ?not|can't|could not|is not|isn't)\b|\b(?:can ?not|can't|could not) say the same\b"
)
_NEW_SUBJECT = re.compile(r"\W*(?:i|we)\b")
_TOPIC = re.compile(r"\W*(?:as for|regarding|concerning|about|with|for)\b")


def _pieces(sentence: str) -> Iterator[_Piece]:
    """The sentence, cut where one part of it sets in against another."""
    parts: list[_Piece] = []
    tokens: list[Token] = []
    begin = 0
    end = Token("contrast", "", len(sentence), len(sentence))
    for token in [*find_tokens(sentence), end]:
        if token.kind not in ("contrast", "joint"):
            tokens.append(token)
            continue
        parts.append(_Piece(tokens, sentence[begin : token.begin]))
        tokens, begin = [], token.end
        if token.kind == "contrast":
            yield from _join_lists(parts)
            parts = []


def _join_lists(parts: list[_Piece]) -> list[_Piece]:
    """Joins parts without a predicate to the one that they are a list with (*the driver* and *CUDA are installed*)."""
    joined: list[_Piece] = []
    waiting: _Piece | None = None
    for each in parts:
        part = each
        speaks = _has_predicate(part.tokens) or _ELLIPSIS.search(part.text) or _LIKEWISE.search(part.text)
        if waiting is not None and _NEW_SUBJECT.match(part.text) and not _TOPIC.match(waiting.text):
            joined.append(waiting)
        elif waiting is not None:
            kept = [t for t in waiting.tokens if t.kind != "hearsay" and t.text != "not"]
            part = _Piece(kept + part.tokens, f"{waiting.text} {part.text}")
        waiting = None
        if speaks:
            joined.append(part)
        elif joined and _object_last(joined[-1].tokens):
            joined[-1] = _Piece(joined[-1].tokens + part.tokens, f"{joined[-1].text} {part.text}")
        else:
            waiting = part
    if waiting is not None and joined and not any(t.kind in ("condition", "future") for t in waiting.tokens):
        joined[-1] = _Piece(joined[-1].tokens + waiting.tokens, f"{joined[-1].text} {waiting.text}")
    elif waiting is not None:
        joined.append(waiting)
    return joined


def _has_predicate(tokens: list[Token]) -> bool:
    return any(t.kind in (*_PREDICATES, "bare", "tried", "quoted") for t in tokens)


def _object_last(tokens: list[Token]) -> bool:
    """The predicate comes before every subject, as in *installed the driver* (and CUDA)."""
    first = next((t.kind for t in tokens if t.kind in (*_PREDICATES, "name", "whole")), None)
    return first in _PREDICATES


def _subjects(tokens: list[Token], names: list[str], mentioned: list[str]) -> tuple[list[str], list[str]]:
    """Whom a piece is about, and who is left out of that (*everything except CUDA*)."""
    exception = next((t.begin for t in tokens if t.kind == "exception"), None)
    unlike = next((t.begin for t in tokens if t.kind == "unlike"), None)
    found = {names[int(number)]: t.begin for t in tokens for number in _NAME.findall(t.text)}
    other = next((name for name, begin in found.items() if unlike is not None and begin > unlike), None)
    if other is not None and len(found) > 1:
        return [name for name in found if name != other], [other]
    order = [*dict.fromkeys(mentioned)] if len({*mentioned}) > 1 else names
    pointed = [order[0 if t.kind == "former" else -1] for t in tokens if t.kind in ("former", "latter") and order]
    whole = any(t.kind == "whole" or t.text in ("none", "nothing", "neither") for t in tokens)
    if exception is not None and whole:
        return [WHOLE], [name for name, begin in found.items() if begin > exception]
    if pointed or found:
        return pointed or [*found], []
    if whole:
        return [WHOLE], []
    return ([_PRONOUN] if any(t.kind == "pronoun" for t in tokens) else []), []


def _claim_of(piece: _Piece, before: Claim | None) -> Claim | None:
    """What one piece claims. `before`: what was claimed before it, for a piece that only points there."""
    kinds = {t.kind for t in piece.tokens}
    if before is not None and not kinds & {*_PREDICATES, "bare"}:
        pointed = _claim_by_reference(piece, kinds, before)
        if pointed is not None:
            return pointed
    open_at = next((at for at in range(len(piece.tokens)) if _opens_what_is_not_so(piece.tokens, at)), None)
    tokens = piece.tokens[:open_at]
    claim = _read_predicates(tokens, piece.text)
    said = [t.kind for t in tokens]
    if "hedge" in said and (_has_predicate(tokens) or "name" in kinds):
        return "unclear"
    if claim is not None and "hearsay" in said:
        told = tokens[said.index("hearsay") :]
        if any(t.kind in ("success", "failure") and not t.text[0].isdigit() for t in told):
            return "unclear"
    return claim


def _claim_by_reference(piece: _Piece, kinds: set[str], before: Claim) -> Claim | None:
    """The claim of *so does CUDA*, *CUDA is not*; `None` for a piece that points at nothing."""
    if _OPPOSITE.search(piece.text):
        return "failed" if before == "installed" else "installed"
    negated = "negation" in kinds
    if _LIKEWISE.search(piece.text):
        return "unclear" if "hedge" in kinds else "failed" if negated else before
    if not _ELLIPSIS.search(piece.text):
        return None
    if before == "failed":
        return "installed"  # the driver failed, CUDA did not; the driver did not install, CUDA did
    return "failed" if negated and before == "installed" else before


def _opens_what_is_not_so(tokens: list[Token], at: int) -> bool:
    """From here on the piece speaks of a condition or the future. *Will not install* is said of what happened."""
    negated = at + 1 < len(tokens) and tokens[at + 1].kind == "negation"
    return tokens[at].kind in ("condition", "future") and not negated


_ATTRIBUTES = ("failing", "failed", "broken", "missing", "aborted")
_ARTICLES = ("a", "an", "the", "of", "for", "any", "this", "that", "about")
"""Between one of these and a noun an attribute says nothing of now (*the failing test*)."""
_NO_NOUN = ("", "to", "at", "on", "in", "with", "because", "and", "again", "now", "during", "while", "when", "for")
_MET = re.compile(
    r"\b(?:ran into|run into|encounter|hit|got|had|have|has|met|occurred|there (?:was|were|is|are)|remain|still|with"
    r"|ended in|(?:were|was) (?:reported|seen|shown|raised))\b"
)
"""Without one of these an error is something spoken of, not something met."""
_LEFT_UNDONE = re.compile(r"\b(?:i|we) (?:did not|didn't|have not|haven't) install")
"""Said by who should have done it: not that it failed."""
_BEFORE_INFINITIVE = frozenset(
    (
        "",
        "to",
        "will",
        "would",
        "can",
        "could",
        "should",
        "may",
        "might",
        "must",
        "shall",
        "me",
        "please",
        "and",
        "a",
        "the",
        "at",
        "its",
        "this",
    )
)


def _read_predicates(tokens: list[Token], text: str) -> Claim | None:
    """The claim of the last predicate, with the negations since the one before it."""
    claim: Claim | None = None
    negated = reduced = able = False
    for at, token in enumerate(tokens):
        infinitive = token.lead in _BEFORE_INFINITIVE
        match token.kind:
            case "negation":
                negated = True
            case "reduced":
                reduced = True
            case "able":
                able = True
            case "omitted":
                return "not_attempted"
            case "tried" if negated:
                claim, negated = "not_attempted", False
            case "todo":
                claim, negated = "failed", False
            case "clean" if claim != "failed":
                claim = "installed"
            case "manner":
                claim = claim or ("failed" if negated else "installed")
            case "fixed" if token.text in ("fix", "resolve", "solve") and infinitive and not (negated or able):
                pass
            case "fixed" if negated:
                claim, negated = "failed", False
            case "fixed":  # what was wrong is so no more
                rest = [t for t in tokens[at + 1 :] if t.kind not in ("failure", "trouble")]
                return _read_predicates(rest, text) or "installed"
            case "failure" if token.text in _ATTRIBUTES and token.lead in _ARTICLES and token.follow not in _NO_NOUN:
                pass
            case "trouble" if not (_MET.search(text) or any(t.kind == "name" for t in tokens)):
                pass
            case "failure" | "trouble":
                claim, negated = ("installed" if negated else "failed"), False
            case "success" | "bare" if negated and token.lead != "to" and _LEFT_UNDONE.search(text):
                claim, negated = "not_attempted", False
            case "bare" if negated:
                claim, negated = "failed", token.lead == "to"  # what denies the infinitive denies the rest
            case "bare" if token.lead == "could" and any(t.text == "neither" for t in tokens[at:]):
                claim = "failed"
            case "bare" if able or token.lead == "could" or not infinitive:
                claim = "installed"
            case "success":
                claim = "failed" if negated or reduced else "installed"
                negated = reduced = False
    return claim
