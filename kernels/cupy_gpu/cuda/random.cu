// Random numbers that are functions of a key and a counter: the same bits on every backend.

struct Words {
    unsigned int w[4];
};

inline __device__ Words philox(
    unsigned int c0, unsigned int c1, unsigned int c2, unsigned int c3, unsigned int k0, unsigned int k1
) {
    for (int round = 0; round < 10; round++) {
        word product0 = (word)c0 * 0xD2511F53u;
        word product1 = (word)c2 * 0xCD9E8D57u;
        unsigned int high0 = (unsigned int)(product0 >> 32), high1 = (unsigned int)(product1 >> 32);
        c0 = high1 ^ c1 ^ k0;
        c2 = high0 ^ c3 ^ k1;
        c1 = (unsigned int)product1;
        c3 = (unsigned int)product0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    Words words = {{c0, c1, c2, c3}};
    return words;
}

// For the vocabulary alone: the words of n counters, (4, n) each.
KERNEL philox_words(
    unsigned int *out, const unsigned int *counters, unsigned int k0, unsigned int k1, whole n
) {
    for (whole i = first_index(); i < n; i += all_threads()) {
        Words words =
            philox(counters[i], counters[n + i], counters[2 * n + i], counters[3 * n + i], k0, k1);
        for (int j = 0; j < 4; j++) out[j * n + i] = words.w[j];
    }
}

// A thread makes four neighbouring units of a row out of one counter.
inline __device__ void dropout_words(
    Words *words, whole *row, int *unit, whole place, int blocks, word key, word step, int layer
) {
    *row = place / blocks;
    int block = (int)(place % blocks);
    *unit = 4 * block;
    *words = philox(
        (unsigned int)block, (unsigned int)*row, (unsigned int)layer, (unsigned int)step,
        (unsigned int)key, (unsigned int)(key >> 32)
    );
}

// For the vocabulary alone: the mask by itself.
KERNEL dropout_mask(
    real *scale, word key, word step, int layer, unsigned int threshold, real kept, whole rows, int units
) {
    int blocks = (units + 3) / 4;
    for (whole place = first_index(); place < rows * blocks; place += all_threads()) {
        Words words;
        whole row;
        int unit;
        dropout_words(&words, &row, &unit, place, blocks, key, step, layer);
        for (int j = 0; j < 4 && unit + j < units; j++)
            scale[row * units + unit + j] = words.w[j] >= threshold ? kept : (real)0;
    }
}

// out = x times the mask; the key and the number of the update come from the clock.
KERNEL dropout_apply(
    stored *out, const stored *x, const word *clock, int layer, unsigned int threshold, real kept,
    whole rows, int units
) {
    int blocks = (units + 3) / 4;
    word step = clock[CLOCK_STEP] + clock[CLOCK_MADE];
    for (whole place = first_index(); place < rows * blocks; place += all_threads()) {
        Words words;
        whole row;
        int unit;
        dropout_words(&words, &row, &unit, place, blocks, clock[CLOCK_KEY], step, layer);
        for (int j = 0; j < 4 && unit + j < units; j++) {
            whole i = row * units + unit + j;
            put(out + i, widened(x[i]) * (words.w[j] >= threshold ? kept : (real)0));
        }
    }
}

// The row at a place of a shuffled epoch: an unbalanced Feistel network over `bits` bits, again
// and again until it falls below `rows`.
inline __device__ whole shuffled(word place, word rows, int bits, word key) {
    int left_bits = bits / 2, right_bits = bits - left_bits;
    word left_mask = ((word)1 << left_bits) - 1, right_mask = ((word)1 << right_bits) - 1;
    do {
        word left = place >> right_bits, right = place & right_mask;
        for (unsigned int block = 0; block < 6; block++) {
            Words words = philox(block, 0, 0, 0, (unsigned int)key, (unsigned int)(key >> 32));
            for (int j = 0; j < 4; j++) {
                // left has at most 32 bits: two products of 64 bits make all 128.
                word low = left * 0xB1CE6E93u, high = left * 0xD2B74407u;
                word top = (high + (low >> 32)) >> 32, bottom = (high << 32) + low;
                word carried = bottom << (right_bits - left_bits) | right >> left_bits;
                left = (top ^ words.w[j] ^ right) & left_mask;
                right = carried & right_mask;
            }
        }
        place = left << right_bits | right;
    } while (place >= rows);
    return (whole)place;
}

KERNEL shuffled_places(whole *index, word rows, int bits, word key, word first, whole n) {
    for (whole i = first_index(); i < n; i += all_threads())
        index[i] = shuffled(first + i, rows, bits, key);
}
