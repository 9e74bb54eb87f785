"""Numbers of things in words."""


def count_noun(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun.

    >>> count_noun(1, "task"), count_noun(1_200, "task"), count_noun(2, "policy", "policies")
    ('1 task', '1,200 tasks', '2 policies')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
