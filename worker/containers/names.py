"""Names for containers that were given none: `eager_turing`. Pure."""

from __future__ import annotations

import random
import re
from collections.abc import Container
from typing import Final

from swarmpy.errors import invalid

ADJECTIVES: Final = tuple(
    """
    able agile amber ample ardent astute blithe bold brave breezy bright brisk calm candid careful cheerful
    civil clear clever cosy crisp curious deft diligent dreamy eager earnest easy elegant exact fair fearless
    fleet fond frank friendly gentle genuine glad gleaming golden graceful hardy hasty hearty honest humble
    jaunty jolly keen kind lively loyal lucid lucky mellow merry mighty modest musing neat nimble noble
    patient peaceful placid polite prompt proud quick quiet ready robust rustic serene sharp silent sincere
    sleek smart snug solid spry stable steady sunny swift tender tidy trusty upbeat valiant vivid warm wise
    witty zealous
    """.split()  # noqa: SIM905  # a list of words is read as one
)
SURNAMES: Final = tuple(
    """
    abel alcott ampere archimedes babbage bardeen bell bernoulli bohr boole born boyle brahe cantor carson
    cerf church conway copernicus coulomb crick curie darwin davy descartes dijkstra dirac edison einstein
    elion euclid euler faraday fermat fermi feynman fibonacci fourier franklin galileo galois gauss germain
    godel goeppert goldberg hamilton hamming heisenberg herschel hertz hilbert hodgkin hooke hopper hoyle
    hubble huygens hypatia jacobi johnson joule kelvin kepler khayyam knuth kovalevskaya lagrange lamarr
    lamport laplace lavoisier leavitt leibniz linnaeus liskov lovelace maxwell mayer mccarthy meitner mendel
    mendeleev merkle minsky mirzakhani morse napier nash newton nightingale nobel noether ohm ostrom pascal
    pasteur pauli pauling perlman planck poincare ptolemy ramanujan ride riemann ritchie rubin rutherford
    sagan salk shannon sinoussi tesla thales thompson torvalds turing volta wiles wilson wing wright yalow
    yonath zeno zuse
    """.split()  # noqa: SIM905  # a list of words is read as one
)
_TRIES: Final = 10
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)
_LONGEST: Final = 128


def made_up(rng: random.Random, taken: Container[str]) -> str:
    """Return a name that is not taken."""
    name = ""
    for _ in range(_TRIES):
        name = f"{rng.choice(ADJECTIVES)}_{rng.choice(SURNAMES)}"
        if name not in taken:
            return name
    number = 1
    while f"{name}{number}" in taken:
        number += 1
    return f"{name}{number}"


def check(name: str) -> str:
    """Return a name that a user gave, without the slash that Docker's habit puts before it.

    Raises:
        SwarmError: INVALID_ARGUMENT, it cannot be one.
    """
    plain = name.removeprefix("/")
    if _NAME.fullmatch(plain) is None or len(plain) > _LONGEST:
        raise invalid(
            f"Invalid container name ({name}): use two or more letters, digits, '_', '.' and '-',"
            " a letter or digit first"
        )
    return plain
