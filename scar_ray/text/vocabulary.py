"""Closed-class English words, the few hundred that mark where phrases and clauses begin, and frequent verbs."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PREPOSITIONS = _words(
    "about above across after against along amid among around as at before behind below beneath "
    "beside besides between beyond by despite down during except for from in inside into like near of "
    "off on onto out outside over per plus since than through throughout toward towards under "
    "underneath until up upon via with within without"
)
DETERMINERS = _words(
    "a an the this these those my your his her its our their some any every each no another both "
    "all either neither such"
)
SUBJECT_PRONOUNS = _words("i you he she it we they there")
PRONOUNS = SUBJECT_PRONOUNS | _words(
    "someone somebody something anyone anybody anything everyone everybody everything nobody nothing me him us "
    "them itself himself herself themselves myself yourself ourselves"
)
BE = _words("am is are was were be been being isn't aren't wasn't weren't ain't 'm 're") | _words(
    "i'm you're he's she's it's we're they're there's that's who's here's what's"
)
HAVE = _words("has have had having hasn't haven't hadn't 've i've you've we've they've")
MODALS = _words(
    "will would shall should can could may might must do does did cannot ca wo 'll 'd won't wouldn't shouldn't "
    "can't couldn't mustn't don't doesn't didn't i'll you'll he'll she'll it'll we'll they'll i'd you'd he'd "
    "she'd we'd they'd"
)
AUXILIARIES = BE | HAVE | MODALS
"""Contractions with a pronoun count as the verb that they hold."""
ADVERBS = _words(
    "not n't never hardly barely scarcely absolutely almost always certainly completely definitely especially even "
    "extremely fairly highly incredibly just mostly much often only particularly perhaps pretty probably quite "
    "rather really simply so still too totally truly utterly very also now then however therefore yet already "
    "recently currently ago again once ever later soon together"
)
COORDINATORS = _words("and or nor & but")
SUBORDINATORS = _words(
    "that although because if provided though unless whenever when where whereas wherever whether which while who "
    "whoever whom whose why how what whatever"
)
POSSESSIVES = _words("'s '")
"""Where they are words of their own, as treebanks have them."""
VERBS = _words(
    "say says said think thinks thought know knows knew make makes made take takes took go goes went come comes "
    "came see sees saw get gets got give gives gave find finds found tell tells told become becomes became feel "
    "feels felt want wants seem seems keep keeps kept let lets begin begins began show shows leave leaves left "
    "put puts mean means meant hold holds held bring brings brought write wrote run ran believe believes expect "
    "expects need needs try tries tried love loves loved like likes hate hates hated watch watched rose fell "
    "sold bought paid lost won met led sent built spent grew stood includes include provide provides remain "
    "remains rise fall add adds help helps"
)

OPENERS = (
    PREPOSITIONS | DETERMINERS | SUBJECT_PRONOUNS | AUXILIARIES | COORDINATORS | SUBORDINATORS | {"not", "never", "to"}
)
"""Function words that belong to what follows them."""
FUNCTION_WORDS = OPENERS | PRONOUNS | ADVERBS
ABBREVIATIONS = _words(
    "mr mrs ms dr prof st jr sr vs etc e.g i.e eg ie approx dept inc ltd co corp gen gov rep sen sgt "
    "capt lt col rev hon vol fig jan feb mar apr jun jul aug sep sept oct nov dec"
)
"""Words after which a full stop ends no sentence, unless a capitalised function word follows."""
