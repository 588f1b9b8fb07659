"""How long a program takes from its start to its end."""

import os
import time


def once(command: list) -> float:
    words = [str(word) for word in command]
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    began = time.perf_counter()
    _, status = os.waitpid(os.posix_spawn(words[0], words, os.environ, file_actions=silent), 0)
    taken = time.perf_counter() - began
    assert os.waitstatus_to_exitcode(status) == 0, f"{words} ended with {os.waitstatus_to_exitcode(status)}"
    return taken


def compare(commands: dict, times: int) -> dict:
    """The times of each, taken in turns, so that what else the machine does hits all alike."""
    taken = {name: [] for name in commands}
    for index in range(times + 3):
        for name, command in commands.items():
            value = once(command)
            if index >= 3:  # The first ones fill the page cache.
                taken[name].append(value)
    return taken
