"""Closed-class English words: the few hundred words that mark where phrases and clauses begin."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PREPOSITIONS = _words(
    "about above across after against along amid among around as at before behind below beneath "
    "beside besides between beyond by despite down during except for from in inside into like near of "
    "off on onto out outside over past per plus since than through throughout to toward towards under "
    "underneath until up upon via with within without"
)
DETERMINERS = _words(
    "a an the this that these those my your his her its our their some any every each no another both "
    "all either neither such what whatever which"
)
PRONOUNS = _words(
    "i you he she it we they there who whoever someone somebody something anyone anybody anything "
    "everyone everybody everything nobody nothing i'm i've i'd i'll you're you've you'd you'll he's "
    "he'd he'll she's she'd she'll it's it'd it'll we're we've we'd we'll they're they've they'd "
    "they'll there's that's who's here's"
)
AUXILIARIES = _words(
    "am is are was were be been being do does did have has had having will would shall should can "
    "could may might must cannot isn't aren't wasn't weren't don't doesn't didn't haven't hasn't "
    "hadn't won't wouldn't shouldn't can't couldn't mustn't ain't"
)
NEGATIONS = _words("not never hardly barely scarcely n't")
DEGREES = _words(
    "absolutely almost always certainly completely definitely enough especially even extremely fairly "
    "highly incredibly just mostly much often only particularly perhaps pretty probably quite rather "
    "really simply so still too totally truly utterly very"
)
COORDINATORS = _words("and or nor & plus")
SUBORDINATORS = _words(
    "although because but if once provided though unless until whenever when where whereas wherever "
    "whether which while who whom whose why yet however therefore"
)

OPENERS = PREPOSITIONS | AUXILIARIES | PRONOUNS | NEGATIONS | DEGREES | COORDINATORS | SUBORDINATORS | DETERMINERS
"""Words that open a phrase when the phrase before already has a content word."""
EITHER_CASE = _words("it you")
"""Pronouns that are subject or object, as the next word tells."""
SUBJECTS = PRONOUNS | DETERMINERS
"""Words that show that a clause follows a coordinator: "and the ...", "and it ...\""""
ABBREVIATIONS = _words(
    "mr mrs ms dr prof st jr sr vs etc e.g i.e eg ie approx dept inc ltd co corp gen gov rep sen sgt "
    "capt lt col rev hon vol fig jan feb mar apr jun jul aug sep sept oct nov dec"
)
"""Words after which a full stop ends no sentence, unless a capitalised closed-class word follows."""
