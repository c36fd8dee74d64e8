// From the rows of a data set to a batch.

// The rows of the batch that the clock shows: kind 0 as they come, 1 shuffled by the clock's key, 2 as
// listed.
KERNEL batch_index(
    whole *index, const word *clock, const whole *listed, int kind, word rows, int bits, whole batch,
    whole n
) {
    word key = clock[CLOCK_ORDER];
    word first = clock[CLOCK_BATCH] * (word)batch;
    for (whole i = first_index(); i < n; i += all_threads()) {
        word place = first + i;
        if (kind == 1) index[i] = shuffled(place, rows, bits, key);
        else index[i] = kind == 2 ? listed[place] : (whole)place;
    }
}

template <typename Given>
inline __device__ void gather_rows(
    stored *X, const Given *given, const whole *index, whole n, int columns
) {
    Walk walk(columns);
    for (; walk.place < n * columns; walk.next()) {
        whole row = index[walk.place / columns];
        put(X + walk.place, (real)widened(given[row * columns + walk.column]));
    }
}

KERNEL gather_float32(stored *X, const float *given, const whole *index, whole n, int columns) {
    gather_rows(X, given, index, n, columns);
}

KERNEL gather_float64(stored *X, const double *given, const whole *index, whole n, int columns) {
    gather_rows(X, given, index, n, columns);
}

KERNEL gather_uint8(stored *X, const unsigned char *given, const whole *index, whole n, int columns) {
    gather_rows(X, given, index, n, columns);
}

KERNEL gather_float16(stored *X, const half_bits *given, const whole *index, whole n, int columns) {
    gather_rows(X, given, index, n, columns);
}

// Targets and weights: class indices, or rows of numbers; null pointers for what there is none of.
KERNEL gather_targets(
    whole *labels, real *T, real *w, const whole *all_labels, const real *all_T, const real *all_w,
    const whole *index, whole n, int outputs
) {
    for (whole i = first_index(); i < n; i += all_threads()) {
        whole row = index[i];
        if (all_labels) labels[i] = all_labels[row];
        if (all_T)
            for (int o = 0; o < outputs; o++) T[i * outputs + o] = all_T[row * outputs + o];
        if (all_w) w[i] = all_w[row];
    }
}

// found[0] = 1 where an entry is NaN or infinite: whoever writes, writes the same.
template <typename Given>
inline __device__ void look_for_odd(int *found, const Given *x, whole n) {
    for (whole i = first_index(); i < n; i += all_threads()) {
        auto number = widened(x[i]);
        if (!(number - number == 0)) found[0] = 1;
    }
}

KERNEL odd_float32(int *found, const float *x, whole n) { look_for_odd(found, x, n); }
KERNEL odd_float64(int *found, const double *x, whole n) { look_for_odd(found, x, n); }
KERNEL odd_float16(int *found, const half_bits *x, whole n) { look_for_odd(found, x, n); }
