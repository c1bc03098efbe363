"""A package of the user's own, whose modules import each other."""
