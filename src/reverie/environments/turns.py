"""Environments that have several tasks in turn.

They have the attributes `tasks`, how many there are, `task_names`, what each is called in the data, by which a method
that must be told its task is told it in an evaluation, and `episode`, which evaluation sets; and `info["task"]`, which
counts from 1. What is observed does not say which task it is.
"""


def turn_of(episode: int | None, seed: int | None, before: int) -> int:
    """The number of a reset, whose remainder is its task: the episode's where an evaluation has set it, else the seed,
    else the one after `before`."""
    return next(turn for turn in (episode, seed, before + 1) if turn is not None)
