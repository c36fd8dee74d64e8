"""Whether a team is worth its threads at present."""

from __future__ import annotations

import math


class Company:
    """Whether a plan's calls are shared at present, or one thread alone is faster.

    A team that has broken up, because a neighbour has a core, goes on alone for a while, for
    longer each time that it happens again soon. All whiles are of work, whatever time passes
    between calls: by the clock, calls of 80 ms every 2 s began anew to try each time, and
    16-64-64-2 took 1.5 times as long as alone. Small batches are tried both ways now and then:
    whether a second thread pays depends on the machine (16-64-64-2, 32 rows: 1.2 times as fast on
    one, 0.6 times on another). Who works when changes no bit.
    """

    SHORTEST, LONGEST = 0.005, 0.5
    """Seconds alone; a try costs up to 30 ms where the neighbour is still there."""
    TRIAL, SOON, AGAIN = 0.015, 0.1, 2.0
    """Seconds of a try of the other way, of work until the first next one, and at most until one;
    each time it is twice as long."""
    ALLOWANCE = 0.85
    """A team's time in a short part, in which it must first wake up, is taken as so much of it."""

    def __init__(self) -> None:
        self.until = -math.inf
        self.pause = self.SHORTEST
        self.kind: tuple[int, float] = (1, 0.0)
        self.again = self.SOON
        self.seconds: dict[int, float] = {}
        self.due: dict[int, float] = {}
        self.worked = 0.0

    def begin(self, team: int, guess: float) -> None:
        """A call of a team comes, of batches that take about `guess` seconds.

        What is known of others may not hold.
        """
        if self.kind != (team, guess):
            self.kind, self.again, self.seconds, self.due = (team, guess), self.SOON, {}, {}

    def next_part(self, batches: int, doubtful: bool) -> tuple[int, int]:
        """Threads of the next part of a call, and its batches at most."""
        team = self.kind[0]
        if self.worked < self.until:
            return 1, self._count(1, self.until - self.worked, batches)
        if not doubtful:
            return team, batches
        for size in (1, team):
            if self.worked >= self.due.get(size, 0.0):
                return size, self._count(size, self.TRIAL, batches)
        if team in self.seconds and self.seconds[team] < self.seconds[1]:
            return team, self._count(team, self.due[1] - self.worked, batches)
        return 1, self._count(1, self.due[team] - self.worked, batches)

    def _count(self, size: int, seconds: float, batches: int) -> int:
        """Batches that take so long."""
        each = self.seconds.get(size) or self.kind[1]
        return min(batches, max(1, int(seconds / each)) if each else 1)

    def learn(self, size: int, part: int, done: int, seconds: float) -> None:
        """Take in how a part of a call went: `size` of a team's threads, `done` of its batches."""
        if not done:  # where Ctrl-C was pressed
            return
        self.worked += seconds
        if size > 1 and done < part:
            again = self.worked - self.until < self.LONGEST
            self.pause = min(2 * self.pause, self.LONGEST) if again else self.SHORTEST
            self.until, self.due[size] = self.worked + self.pause, self.worked
            return
        short = size > 1 and seconds < 2 * self.TRIAL
        self.seconds[size] = seconds / done * (self.ALLOWANCE if short else 1.0)
        slower = self.seconds[size] > self.seconds.get(self.kind[0] + 1 - size, math.inf)
        self.due[size] = self.worked + (self.again if slower else self.AGAIN)
        self.again = min(2 * self.again, self.AGAIN) if slower else self.again
