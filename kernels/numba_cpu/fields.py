"""The plan's table and numbers: what stands where.

The table is a header of integers, then a line of fields for each layer. Offsets of parameters (W,
B, U, V, SCALE, SHIFT) count from the start of a flat vector, all others from the memory's start.
U and V are the learned parameters of an activation; without them they equal B. From VECTOR on stand
the offsets of the VECTORS arrays with one number for each column: B, and of the others those that
the layer has.
"""

from __future__ import annotations

from ..layout import FLOORS
from .updates import CONSTANTS

BLOCK, WIDE_BLOCK = 64, 256
"""Rows that pass through all layers together, so that they stay in the cache; more of them where
the weights don't, for each block reads all of these (two threads: 784-1000-10 5 %, 784-2048-2048-10
2 %)."""

TOO_WIDE = 1 << 26
"""Numbers in a layer's weights from which on Ctrl-C would wait for a second for a large block."""

CACHE_LINE = 64
"""Bytes."""

ITEM_INPUTS = 64
"""Inputs of an item: 4 panels with vectors of 16 numbers, 8 with 8 of them (4 there took 3 to 20 %
longer from 13-32-32-3 to 64-100-10, for all the calls)."""

# fmt: off
(LAYERS, CAPACITY, LOSS, JOINED, MEAN_OVER_ROWS, PENALTY_PER_ROW, PENALIZED, UPDATE,
 VECTOR_UPDATE, CLIPPED,
 PARAMETERS, SLOT_U, SLOT_V, GRADIENT, PERSISTENT, FLAT, INPUT, TARGETS, WEIGHTS, FACTORS,
 ROW_LOSSES, ZEROS, SCRATCH, SCRATCH_SIZE, SCRATCH_DA, SCRATCH_TERMS, TILES, COLUMN_PANELS,
 X, LABELS, DENSE, SAMPLE_WEIGHTS, INDEX, ORDER, ORDER_KEY, ROWS, BATCH_ROWS, FIRST, COUNT,
 STEP, KEY, RATES, LOSSES_OUT, OUT, MODE, TRAINING, LISTED_ROWS, NARROW, RING, WINDOW, PATIENCE,
 DONE, HALT, TWO_PASSES, RUNNING, ROW_KIND, ROW_BYTES, LINES, ITEM_LINES, SHARES, SHARE_STARTS,
 TEAM, KEPT, LOOKING, BLOCK_ROWS, ITEM_COUNT, TOTAL) = range(67)
HEADER = 72
(INPUTS, UNITS, PIECES, IN_PANELS, UNIT_PANELS, PANELS, ACTIVATION, NORM, DROPS, THRESHOLD,
 KEEPS_Y, W, B, U, V, SCALE, SHIFT, BETA, WT, LAYER_INPUT, Y, HAT, A, OUTPUT, DY, DZ, MASK, DU, DV,
 ROW_SPREAD, MEAN, SPREAD, RUNNING_MEAN, RUNNING_VARIANCE, RUNNING_SPREAD, SUMS, SQUARES,
 SQUARED_GRADIENT, TRUST_SQUARES, ITEMS, VECTORS, VECTOR) = range(42)
FIELDS = 48
(LOSS_CONSTANT, L1, L2, TINY, EPSILON, CLIP_VALUE, CLIP_NORM, RULE) = range(8)
NUMBERS = RULE + CONSTANTS
# fmt: on
ITEM_FIELDS = 4
"""Integers of an item's line: input panels low and high, panels of columns p0 and p1."""
LAYER_NUMBERS = 2
"""Per layer in the numbers: the activation's constant and 1/(1 - dropout)."""
THREAD_NUMBERS = 16
"""Per thread: the numbers of an update, on cache lines of their own."""
LOOKED = 12
"""Where it stands in these: how many runs of what the last update has written are not finite, or
NaN where nobody looked; see `keeping`."""
THREAD_FLAGS = 64
"""Integers of a thread: its barrier count on a cache line of its own, then the round keys."""
WAITED, COUNTED, SINCE, APART, LEFT = 1, 2, 3, 4, 5
"""Beside the count: cycles that a thread has waited, in all and before this window of time; for the
team, on the line of thread 0: when the window began, and whether the team is to break up. Then
whether a thread has left work undone in this batch."""
TURN_BASE = 6
"""Beside these: turns that were taken in earlier phases, on each thread's line."""
TURNS = 56
"""Turns that are taken in this call, of the team; on a cache line of its own."""
ROUND_KEYS = 16
"""Where these stand."""
LISTED_AHEAD = 512
"""Rows that one thread lists at a time: what a shuffle enciphers again goes on together."""
NARROW_WIDTH = 8
"""Numbers from row to row in a network that is trained narrow."""

SEQUENCE, KEYED, LISTED = range(3)
ORDERS = {"sequence": SEQUENCE, "keyed": KEYED, "array": LISTED}
LOGITS, OUTPUTS, LOSS_ONLY, CLASSES = range(4)
"""What a forward pass is asked for (MODE)."""

EVALUATION, GRADIENT_ONLY, UPDATING = range(3)
"""TRAINING: running statistics; batch statistics; batch statistics that move the running ones."""

NEVER, POSSIBLE, WANTED = range(3)
"""HALT: whether a call can be told to leave its work undone, and whether it is."""

BETA_FLOOR = FLOORS["beta"]
