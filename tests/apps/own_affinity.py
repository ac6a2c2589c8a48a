"""Affinities of a user's own."""

from maitred.routing import Affinity


class Rooms:
    """They may stand anywhere in a module."""

    first_letter = Affinity(name="letter", find=lambda head: head.path[1:2] or None)


not_an_affinity = "letter"
