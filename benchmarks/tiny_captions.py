"""What the tiny text tower reads: captions of rendered stills, and a byte-level BPE tokenizer in CLIP's manner."""

from __future__ import annotations

import json

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from mmfuse.data.tiny.rendering import COLOUR_NAMES, GROUND_NAMES, SHAPE_NAMES, Pictures

CONTEXT = 77
BEGIN, END = "<|startoftext|>", "<|endoftext|>"

OPENINGS = (
    "{}",
    "a picture of {}",
    "a photo of {}",
    "a drawing of {}",
    "an image of {}",
    "{} in a picture",
    "there is {}",
)
SIZES = (
    ("tiny", "very small"),
    ("small", "little"),
    ("medium", "middle sized"),
    ("large", "big"),
    ("huge", "very large"),
)
TURNS = (
    ("pointing up", "standing upright"),
    ("tilted to the right", "leaning to the right"),
    ("pointing to the right", "lying on its right side"),
    ("pointing down", "upside down"),
    ("pointing to the left", "lying on its left side"),
    ("tilted to the left", "leaning to the left"),
)
PLACES = {
    (-1, -1): ("at the top left", "in the upper left corner"),
    (0, -1): ("at the top", "near the upper edge"),
    (1, -1): ("at the top right", "in the upper right corner"),
    (-1, 0): ("on the left", "near the left edge"),
    (0, 0): ("in the middle", "in the centre"),
    (1, 0): ("on the right", "near the right edge"),
    (-1, 1): ("at the bottom left", "in the lower left corner"),
    (0, 1): ("at the bottom", "near the lower edge"),
    (1, 1): ("at the bottom right", "in the lower right corner"),
}
SOLIDITIES = (("hardly visible", "very faint"), ("faint", "pale"), ("clear", "solid"))
SHADES = ("dark", "grey", "light")


def caption(pictures: Pictures, row: int, *, rng: np.random.Generator) -> str:
    """Say what is in a still: always its shape, and of the rest about three things in four, in varying words."""

    def choose(words: tuple[str, ...]) -> str:
        return str(words[int(rng.integers(len(words)))])

    def told() -> bool:
        return bool(rng.random() < 0.75)

    words = [_if(choose(_size_words(pictures, row)), told())]
    words += [_if(choose(_solidity_words(pictures, row)), told())]
    words += [_if(COLOUR_NAMES[int(pictures.colour[row])], told()), SHAPE_NAMES[int(pictures.shape[row])]]
    thing = "a " + " ".join(word for word in words if word)
    if told():
        thing += " " + choose(_turn_words(pictures, row))
    if told():
        thing += " " + choose(_place_words(pictures, row))
    if told():
        shade = SHADES[int(np.digitize(float(pictures.ground_paint[row].mean()), (0.35, 0.65)))]
        thing += f" on a {shade} {GROUND_NAMES[int(pictures.ground[row])]} ground"
    return choose(OPENINGS).format(thing)


def _if(word: str, told: bool) -> str:
    return word if told else ""


def _size_words(pictures: Pictures, row: int) -> tuple[str, ...]:
    return SIZES[int(np.digitize(float(pictures.radius[row]), (0.25, 0.32, 0.4, 0.5)))]


def _solidity_words(pictures: Pictures, row: int) -> tuple[str, ...]:
    return SOLIDITIES[int(np.digitize(float(pictures.opacity[row]), (0.35, 0.7)))]


def _turn_words(pictures: Pictures, row: int) -> tuple[str, ...]:
    """Upright within 22 degrees, tilted to 60, lying to 120, upside down beyond."""
    angle = float(pictures.angle[row])
    turn = int(np.digitize(abs(angle), np.radians((22.0, 60.0, 120.0))))
    return TURNS[turn] if angle >= 0 or turn in (0, 3) else TURNS[6 - turn]


def _place_words(pictures: Pictures, row: int) -> tuple[str, ...]:
    x, y = float(pictures.x[row]), float(pictures.y[row])
    return PLACES[int(np.sign(x)) * (abs(x) > 0.25), int(np.sign(y)) * (abs(y) > 0.25)]


# Ordinary English for the tokenizer alone, so that prompts about anything come out in pieces of a sensible length.
ENGLISH = """
the of and to in that it is was for on are as with his they at be this from have or by one had not but what all were
when we there can an your which their said if do will each about how up out them then she many some so these would
other into has more her two like him see time could no make than first been its who now people my made over did down
only way find use may water long little very after words called just where most know get through back much before go
good new write our used me man too any day same right look think also around another came come work three word must
because does part even place well such here take why things help put years different away again off went old number
great tell men say small every found still between name should home big give air line set own under read last never us
left end along while might next sound below saw something thought both few those always looked show large often
together asked house world going want school important until form food keep children feet land side without boy once
animals life enough took sometimes four head above kind began almost live page got earth need far hand high year
mother light parts country father let night following picture being study second eyes soon times story boys since
white days ever paper hard near sentence better best across during today others however sure means knew try told young
miles sun ways thing whole hear example heard several change answer room sea against top turned learn point city play
toward five using himself usually money seen car morning body upon family later turn move face door cut done group
true half red fish plants living wanted black eat short run book gave order open ground cold really table remember
tree course front space inside ago sad early learned brought close nothing though idea lived became add become grow
draw yet less wind behind cannot letter among able dog shown mean english rest perhaps certain six feel fire ready
green built special ran full town complete oh person hot anything hold state list stood hundred ten fast kept notice
strong voice area horse matter stand box start river class piece surface slowly quickly happy walk walking running
jump jumping throw throwing catch catching climb climbing swim swimming dive diving ride riding swing swinging kick
kicking push pushing pull pulling hit hitting shoot shooting ball play playing guitar piano violin drum flute cello
sport game team golf tennis soccer basketball baseball volleyball cricket boxing fencing skating skiing surfing rowing
cycling bike wash washing brush brushing hair teeth cook cooking cutting mixing drink drinking eating smile laugh
laughing talk talking sing singing dance dancing hug kiss shake shaking wave waving clap clapping sit sitting lie
lying fall falling lift lifting pour pouring smoke sword bow arrow rope wall floor video clip frame movie film scene
camera shape circle square triangle line curve moving turning growing shrinking spinning rolling rising falling
appearing clockwise counterclockwise forward backward upward downward sideways rotating position twist twists
somersault somersaults straight reverse inward pike tuck free armstand board platform
"""


def train_tokenizer(captions: list[str], *, merges: int = 900) -> CLIPTokenizer:
    """Learn how to spell: CLIP's own way of cutting text, with merges from captions and ordinary English.

    Every byte is in the vocabulary, inside and at the end of a word, so that no text is unknown.
    """
    pieces = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = pieces.normalizer, pieces.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + merges,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        min_frequency=1,
        show_progress=False,
    )
    # A word of the list counts as much as one that stands in a few captions.
    learner.train_from_iterator([*captions, *([ENGLISH] * 5)], trainer)
    learned = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += list(dict.fromkeys(a + b for a, b in learned if a + b not in set(tokens)))
    tokens += [BEGIN, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=learned, model_max_length=CONTEXT)
