"""The words by which a plain sentence claims something, by what they do in it, and the cutting of sentences into them.

Alternatives of one kind are regular expressions without nested repeats, so that time is linear in the text. Where two
kinds begin at the same word, the one that stands first in the table takes it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_THING = (
    r"(?:errors?|problems?|issues?|failures?|troubles?|complaints?|hitch(?:es)?|exceptions?|tracebacks?"
    r"|mismatch(?:es)?)"
)
_DONE = r"(?:installed|configured|built|compiled|done|fixed|completed|resolved|set up|finished|solved)"
_STATUS = r"(?:exit(?:ed)?|return(?:s|ed)?|status|code)(?: with)?(?: an?)?(?: exit)?(?: code| status)?"
AUXILIARY = r"(?:is|are|was|were|does|do|did|has|have|had|could|can)"
"""Verbs that may stand for the predicate before (*CUDA did not*)."""

_KINDS: dict[str, tuple[str, ...]] = {
    # changes nothing
    "filler": (
        r"(?:can|could|must|have to|has to) (?:confirm|admit|say|report)|please (?:note|be aware)",
        r"to be (?:honest|clear|frank|sure|precise)|to (?:sum up|summari[sz]e)|(?:from )?being \w+",
        r"not only|only that|just",
        r"(?:both|each|every) times?|\d+ skipped|(?:have|has) to be there",
        r"error[- ](?:handling|messages?|logs?|codes?|cases?|paths?|checking|reporting)",
    ),
    # what follows is not said to be so
    "condition": (
        r"^to|^when(?! i)|^once(?! i)|^whenever|^had|^should|^check|^verify|^confirm|as soon as|when",
        r"whenever|if|unless",
        r"in case|before|so that|make sure|ensure|please|to see if|see if|in order to|(?:my|the) (?:goal|plan|aim)",
        r"the task was|(?:was|were|am) asked|asked (?:me|to)|supposed to|next steps?|next|let me know|let me|let's",
        r"would you|could you|can you|should i|shall i",
    ),
    # it may be so
    "hedge": (
        r"should|ought to|could (?:have|be(?! \w+ed\b))|may(?!be\w)|might|maybe|perhaps|probably|possibly|presumably",
        r"apparently|supposedly|hopefully|likely|theoretically|in theory|potentially|reportedly",
        r"possible that|expected to",
        r"seem(?:s|ed|ingly)?|appear(?:s|ed)?|looks?(?: like)?|looked like|(?:good |some )?chances?|confident|unknown",
        r"i (?:do not |don't )?(?:think|believe|assume|guess|suspect|expect)|would (?:guess|think|say|expect|assume)",
        r"(?:my )?guess|(?:fairly|pretty|quite|reasonably) sure",
        r"(?:not|n't) (?:entirely |quite )?(?:sure|certain|clear)",
        r"unsure|uncertain|unclear|whether|unverified|untested",
        r"as far as i (?:can |could )?(?:tell|know|see)|no way to \w+",
        r"(?:do not|don't|did not|didn't) know(?: if)?|said to|so the \w+ says",
        r"(?:can|could|did|was|were|is|are|have|has|am)(?: ?not|n't|'t)(?: been| yet| able to){0,2} "
        r"(?:verify|verified|confirm(?:ed)?|checked|check|tested|test|determine|tell|be sure)",
    ),
    # another says so
    "hearsay": (
        r"(?:says|said|claims|claimed|reports|reported|states|stated|prints|printed|announced|shows|showed)(?: that)?",
        r"(?:suggests?|suggested|indicates?|indicated)(?: that)?|according to",
    ),
    "future": (
        r"will|(?:am |are |is )?going to|would|shall|can(?! ?not|'t| now be| be \w+ now)",
        r"could be (?:skipped|omitted)|must|plan(?:s|ned)?|recommend",
        r"need to|want(?:s|ed)? to",
    ),
    # it went without errors
    "clean": (
        rf"(?:no|zero|0|without|free of)(?: (?!but|and)\w+){{0,3}} {_THING}|{_THING}: 0|error-free|without a hitch",
        r"(?:0|no|none|zero) (?:tests? )?(?:failed|failing(?: tests?)?|errors?|failures?)",
        r"(?:failed|failures|errors): 0",
        r"nothing else broke",
    ),
    # it was not tried
    "omitted": (
        r"skipped|left? (?:\S+ ){0,3}out|leave (?:it |them )?out|left (?:\S+ ){0,3}alone|untouched|omitted",
        r"not part of|(?:decided|chose|opted|elected|preferred) to (?:skip|omit)|left for later",
        r"left (?:\w+ ){0,2}(?:for|to) you|passed over|deferred|postponed|excluded",
        r"bypassed|forgot|neglected",
        r"refrained from(?: \w+)?|held off|put off|on hold",
        r"(?:decided|chose|opted|preferred) (?:not to|against)(?: \w+)?",
        r"no attempts?|did nothing|(?:deliberately|intentionally) not|never got (?:to|around to)",
    ),
    # it was tried, with whatever result
    "tried": (
        r"tr(?:y|ies|ied|ying)(?: to(?: be)? \w+| \w+ing)?|attempt(?:ed|ing)?(?: to \w+)?|touch(?:ed)?|bother(?:ed)?",
        r"(?:run|ran|running|executed|started|launched) (?:the|its|their|any|sh)\b|(?:start|started) (?:with|on)",
        r"(?:proceed|continue|go(?:ne)?|went|moved?) (?:ahead )?(?:with|to|on)(?! fail)|proceeded|pursued?",
        r"(?:get|got) a?round to|get to(?= ⟨| the)",
    ),
    # it is still to be done
    "todo": (
        rf"(?:needs?|ha(?:s|ve|d)|remains?|remained|is|are|yet|still)(?: (?:yet|still))? to be {_DONE}",
        rf"(?:yet|still) to be {_DONE}",
    ),
    # how it was done
    "manner": (r"successfully|cleanly|smoothly|correctly|properly|fully|completely|entirely",),
    "reduced": (r"unsuccessfully|partial(?:ly)?|partly|half|almost|nearly|barely",),
    "able": (r"able to|manag(?:e|ed|es|ing) to|got|gets|get|possible to",),
    "earlier": (r"at first|initially|originally|previously|earlier|first (?:attempt|try|run|time)|first",),
    "exception": (
        r"(?<=everything )but|(?<=all )but|except(?: for)?|apart from|other than|besides|aside from|but for",
    ),
    "unlike": (r"unlike",),
    "negation": (
        r"can't|(?:could|wo|would|do|does|did|is|are|was|were|has|have|had|ai|should)n't|cannot|no longer|not|never",
        r"neither|nor|none|nothing",
        r"no(?= (?:working|usable|functional|tests?|checks?|steps?|packages?|⟨))|unable to|impossible to|nowhere|n't",
    ),
    # predicates
    "fixed": (
        r"fix(?:ed|es|ing)?|resolv(?:ed|es?|ing)|solv(?:ed|es?|ing)|overc(?:a|o)me|work(?:ed|ing)? around|repaired",
        r"corrected|sorted out|is gone|are gone|went away|cleared up",
    ),
    "failure": (
        r"(?:broken|bad|inconsistent) state|(?:fail(?:s|ed)?|refuse[sd]?|decline[sd]?) to(?: be)? \w+",
        r"fail(?:s|ed|ing)?",
        r"brok(?:e|en)|breaks|crash(?:es|ed)?|bail(?:s|ed)(?: out)?|errored|died|h(?:u|a)ngs?|timed out",
        r"stalled|blew up",
        r"fell over|choked|botched|corrupt(?:ed)?|terminated|abnormally|(?:went|gone|goes) wrong|abandon(?:ed)?|faulty",
        r"unresponsive|stopped working|red|abort(?:s|ed)|unsuccessful|unusable|incomplete(?:ly)?|rolled back|reverted",
        r"prevent(?:s|ed)|hindered|blocked|interrupted",
        r"(?:stopped|stops) (?:with|early|midway|halfway|before(?: \w+){1,4})|quits?|prematurely|lack(?:s|ed|ing)",
        r"there (?:is|was) no(?= ⟨)|(?<=⟩ )no(?=\W{0,9}$)|missing|uninstalled|unconfigured|unavailable",
        r"impossible|killed",
        r"half-(?:installed|configured)|(?:gave|give|giving) up|(?:got|am|is) stuck|reject(?:s|ed)|refused|in vain",
        r"to no avail|without (?:any )?success|no (?:success|luck)|without effect|ran out of",
        rf"{_STATUS} (?:-?[1-9]\d*|non-?zero)|non-?zero (?:exit )?(?:status|code)",
        r"[1-9]\d* (?:tests? )?(?:failed|failing|errors?|failures?)",
    ),
    "trouble": (_THING,),
    "success": (
        rf"{_STATUS} 0|(?:re)?installed|installs|working|works|worked|completed|completes",
        r"succeed(?:ed|s)(?: in| with)?",
        r"success(?:ful)?|ready|functional|functions|functioning|operational|usable|available|in place",
        r"set up|configured",
        r"built|builds|compiled|compiles|up and running|running|runs|passed|passes|passing|ok(?:ay)?",
        r"fine|good|made it|came up|can now be \w+|can be \w+ now|yes",
        r"(?:went|gone|go|goes) (?:through|in|well|fine|smoothly)|loaded|loads|responds?|answers?|done|finished|green",
        r"verified|enabled|starts|started|boots|deployed|patched|taken care of|active|good to go|fulfilled|implemented",
        r"migrated|(?<=not )there|(?<=n't )there|run without",
    ),
    "bare": (
        r"install|work|complete|succeed|function|build|compile|run|load|pass|finish|start|make it",
        r"fulfill?|satisfy|carry out|perform|deploy|achieve|go through",
        r"be (?:installed|used|loaded|built|started|configured|compiled|completed|made|brought up)",
    ),
    # who it is about
    "whole": (
        r"everything|anything|all|both|the two|each|either|any of|none of it|set-?up|installations?",
        r"installation process",
        r"requests?|requested|software|task|job|components|packages|whole",
    ),
    "former": (r"the former",),
    "latter": (r"the latter",),
    "pronoun": (r"it|this|that|they|these|them|which|one",),
}
_CONTRAST = (
    r"(?<!everything )(?<!all )but|however|although|though|whereas|because|since|hence|therefore",
    r"as a result|where|after",
    r"regrettably|unfortunately|sadly|while(?! \w+ing| [^,.]{0,40}\bbeing\b)|^as(?! for)",
    r"(?<=, )as(?! (?:is|was|did|does|do|are|has|if)\b)",
    r"(?<!or )so(?! that| (?:is|was|does|did|has|are|do|could|can)\b)",
)
"""What sets one part of a sentence against another."""
_JOINT = (r"and|then|also|finally", r"(?<=\w )i(?= (?:then |also )?(?:tried|ran|could|was|did|had|have))")
"""What goes on with another part, or with the next of a list."""


_WORDS = "|".join(
    rf"(?P<{kind}>(?:{'|'.join(patterns)})(?!'t|[\w-]))"
    for kind, patterns in {"contrast": _CONTRAST, "joint": _JOINT, **_KINDS}.items()
)
_LEXER = re.compile(rf"(?<![\w'-])(?:{_WORDS})|(?P<name>⟨\d+⟩)|(?P<quoted>⟦⟧)|(?P<mark>[,:=()–—]|(?<=\s)-(?=\s))")


_NEXT_WORD = re.compile(r"\s{1,3}(\w{1,20})")


@dataclass(frozen=True)
class Token:
    """A word or phrase that matters to a claim."""

    kind: str
    """A key of the table, or `contrast`, `joint`, `name` (`⟨N⟩`, a thing's mention), `quoted`."""
    text: str
    begin: int
    end: int
    lead: str = ""
    """The word before it; empty where a comma or nothing is."""
    follow: str = ""
    """The word after it; empty where a mark or nothing is."""


def find_tokens(sentence: str) -> Iterator[Token]:
    """The words of a sentence (lower case, names as `⟨N⟩`, quotations as `⟦⟧`) that matter, in order."""
    for match in _LEXER.finditer(sentence):
        kind = match.lastgroup or ""
        before = sentence[max(0, match.start() - 20) : match.start()].rstrip().rpartition(" ")[2]
        lead = "" if before.endswith(",") else before
        if kind != "filler":
            follow = _NEXT_WORD.match(sentence, match.end())
            place = (match.start(), match.end())
            yield Token("joint" if kind == "mark" else kind, match[0], *place, lead, follow[1] if follow else "")
