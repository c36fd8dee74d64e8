// Sums in a fixed order, without atomics: each thread a run of its own, then the runs.

// Sums of each column over `chunk` rows: (chunks, columns), a thread for each.
KERNEL column_partials(
    real *partial, const stored *D, whole rows, int columns, int chunk, int chunks
) {
    for (whole i = first_index(); i < (whole)chunks * columns; i += all_threads()) {
        whole first = i / columns * chunk, last = first + chunk < rows ? first + chunk : rows;
        const stored *at = D + i % columns;
        real sum = 0;
        for (whole row = first; row < last; row++) sum += widened(at[row * columns]);
        partial[i] = sum;
    }
}

// The same of D and of D E, which normalization wants.
KERNEL column_pair_partials(
    real *products, real *sums, const stored *D, const stored *E, whole rows, int columns, int chunk,
    int chunks
) {
    for (whole i = first_index(); i < (whole)chunks * columns; i += all_threads()) {
        whole first = i / columns * chunk, last = first + chunk < rows ? first + chunk : rows;
        whole column = i % columns;
        real product = 0, sum = 0;
        for (whole row = first; row < last; row++) {
            real d = widened(D[row * columns + column]);
            product += d * widened(E[row * columns + column]);
            sum += d;
        }
        products[i] = product;
        sums[i] = sum;
    }
}

KERNEL column_finish(real *out, const real *partial, int chunks, int columns) {
    for (whole column = first_index(); column < columns; column += all_threads()) {
        real sum = 0;
        for (int chunk = 0; chunk < chunks; chunk++) sum += partial[(whole)chunk * columns + column];
        out[column] = sum;
    }
}

KERNEL fill(real *x, real value, whole n) {
    for (whole i = first_index(); i < n; i += all_threads()) x[i] = value;
}

// Sums of x y (y null: of x), a stretch for each of `parts` threads.
KERNEL product_partials(double *partial, const real *x, const real *y, int parts, whole n) {
    for (whole part = first_index(); part < parts; part += all_threads()) {
        double sum = 0;
        for (whole i = part; i < n; i += parts) sum += (double)x[i] * (y ? (double)y[i] : 1.0);
        partial[part] = sum;
    }
}

KERNEL penalty_partials(
    double *partial, const real *W, double l1, double l2, int parts, whole n
) {
    for (whole part = first_index(); part < parts; part += all_threads()) {
        double sum = 0;
        for (whole i = part; i < n; i += parts) {
            double weight = (double)W[i];
            sum += l1 * fabs(weight) + 0.5 * l2 * weight * weight;
        }
        partial[part] = sum;
    }
}

KERNEL penalty_gradient(
    real *dW, const real *W, const double *numbers, double l1, double l2, whole n
) {
    real first = (real)(numbers[PENALTY_SHARE] * l1), second = (real)(numbers[PENALTY_SHARE] * l2);
    for (whole i = first_index(); i < n; i += all_threads()) {
        real slope = dW[i];
        if (first != 0) slope += first * sign_of(W[i]);
        if (second != 0) slope += second * W[i];
        dW[i] = slope;
    }
}

inline __device__ double sum_of_parts(const double *partial, int parts) {
    double sum = 0;
    for (int part = threadIdx.x; part < parts; part += blockDim.x) sum += partial[part];
    return sum_of_block(sum);
}

// What a batch weighs, and what its sums are multiplied by. One block; no weights: parts is 0.
KERNEL begin_batch(
    double *numbers, const double *weights, int parts, double rows, int mean, int by_rows
) {
    double total = parts ? sum_of_parts(weights, parts) : rows;
    if (threadIdx.x == 0) {
        double inverse = total != 0 ? 1 / total : 0;
        numbers[LIVE] = total != 0;
        numbers[DATA_SHARE] = mean ? inverse : 1;
        numbers[PENALTY_SHARE] = by_rows ? inverse : 1;
    }
}

// The batch's loss, which a batch without weight makes of its penalty alone. One block. The clock
// goes on to the next batch.
KERNEL finish_batch(
    double *losses, const double *numbers, word *clock, const double *terms, int parts,
    const double *penalties, int penalty_parts
) {
    double data = sum_of_parts(terms, parts);
    double penalty = sum_of_parts(penalties, penalty_parts);
    if (threadIdx.x == 0) {
        double loss = numbers[PENALTY_SHARE] * penalty;
        if (numbers[LIVE] != 0) loss += numbers[DATA_SHARE] * data;
        losses[clock[CLOCK_BATCH] - clock[CLOCK_FIRST]] = loss;
        clock[CLOCK_BATCH] += 1;
        if (numbers[LIVE] != 0) clock[CLOCK_MADE] += 1;
    }
}
