// Normalization by columns ("batch") and by rows ("layer").

// Mean and sum of squared distances of each column over `chunk` rows, as in column_partials.
KERNEL moment_partials(
    real *means, real *squares, const stored *Z, whole rows, int columns, int chunk, int chunks
) {
    for (whole i = first_index(); i < (whole)chunks * columns; i += all_threads()) {
        whole first = i / columns * chunk, last = first + chunk < rows ? first + chunk : rows;
        const stored *at = Z + i % columns;
        real sum = 0;
        for (whole row = first; row < last; row++) sum += widened(at[row * columns]);
        real mean = sum / (real)(last - first), square = 0;
        for (whole row = first; row < last; row++) {
            real distance = widened(at[row * columns]) - mean;
            square += distance * distance;
        }
        means[i] = mean;
        squares[i] = square;
    }
}

// Joins the chunks (Chan, Golub & LeVeque 1983), first to last.
KERNEL moment_finish(
    real *mean, real *variance, real *spread, const real *means, const real *squares, whole rows,
    int columns, int chunk, int chunks
) {
    for (whole column = first_index(); column < columns; column += all_threads()) {
        real centre = means[column], square = squares[column];
        real count = (real)(chunk < rows ? chunk : rows);
        for (int part = 1; part < chunks; part++) {
            whole left = rows - (whole)part * chunk;
            real more = (real)(left < chunk ? left : chunk);
            real distance = means[(whole)part * columns + column] - centre, both = count + more;
            centre += distance * (more / both);
            square += squares[(whole)part * columns + column] + distance * distance * (count * more / both);
            count = both;
        }
        mean[column] = centre;
        variance[column] = square / count;
        spread[column] = 1 / root(variance[column] + (real)VARIANCE_EPSILON);
    }
}

KERNEL spread_of(real *spread, const real *variance, int columns) {
    for (whole column = first_index(); column < columns; column += all_threads())
        spread[column] = 1 / root(variance[column] + (real)VARIANCE_EPSILON);
}

// Moves running statistics, unless the batch weighs nothing. Null numbers: it always counts.
KERNEL move_running(
    real *running_mean, real *running_variance, const real *mean, const real *variance,
    const double *numbers, real share, real unbiased, int columns
) {
    if (numbers && numbers[LIVE] == 0) return;
    for (whole column = first_index(); column < columns; column += all_threads()) {
        running_mean[column] = running_mean[column] * (1 - share) + share * mean[column];
        running_variance[column] =
            running_variance[column] * (1 - share) + share * unbiased * variance[column];
    }
}

// Y may be Z itself.
KERNEL normalize_columns(
    stored *Y, stored *hat, const stored *Z, const real *mean, const real *spread, const real *scale,
    const real *shift, whole rows, int columns
) {
    Walk walk(columns);
    for (; walk.place < rows * columns; walk.next()) {
        int column = walk.column;
        real centred = (widened(Z[walk.place]) - mean[column]) * spread[column];
        put(hat + walk.place, centred);
        put(Y + walk.place, centred * scale[column] + shift[column]);
    }
}

// dZ may be dY itself. Frozen: mean and variance were given, and are constants.
KERNEL batch_backward(
    stored *dZ, const stored *dY, const stored *hat, const real *spread, const real *scale,
    const real *dscale, const real *dshift, int frozen, whole rows, int columns
) {
    real share = frozen ? (real)0 : 1 / (real)rows;
    Walk walk(columns);
    for (; walk.place < rows * columns; walk.next()) {
        int column = walk.column;
        real slope = widened(dY[walk.place]);
        if (!frozen)
            slope -= share * dshift[column] + widened(hat[walk.place]) * (share * dscale[column]);
        put(dZ + walk.place, slope * scale[column] * spread[column]);
    }
}

template <int LANES>
inline __device__ void normalized_rows(
    stored *Y, stored *hat, real *spread, const stored *Z, const real *scale, const real *shift,
    whole rows, int columns
) {
    int lane = threadIdx.x % LANES;
    for (whole row = first_index() / LANES; row < rows; row += all_threads() / LANES) {
        const stored *z = Z + row * columns;
        real sum = 0, square = 0;
        for (int c = lane; c < columns; c += LANES) sum += widened(z[c]);
        real mean = sum_of_lanes<LANES>(sum) / (real)columns;
        for (int c = lane; c < columns; c += LANES) {
            real distance = widened(z[c]) - mean;
            square += distance * distance;
        }
        square = sum_of_lanes<LANES>(square) / (real)columns;
        real wide = 1 / root(square + (real)VARIANCE_EPSILON);
        for (int c = lane; c < columns; c += LANES) {
            real centred = (widened(z[c]) - mean) * wide;
            put(hat + row * columns + c, centred);
            put(Y + row * columns + c, centred * scale[c] + shift[c]);
        }
        if (lane == 0) spread[row] = wide;
    }
}

KERNEL layer_forward_short(
    stored *Y, stored *hat, real *spread, const stored *Z, const real *scale, const real *shift,
    whole rows, int columns
) {
    normalized_rows<1>(Y, hat, spread, Z, scale, shift, rows, columns);
}

KERNEL layer_forward_long(
    stored *Y, stored *hat, real *spread, const stored *Z, const real *scale, const real *shift,
    whole rows, int columns
) {
    normalized_rows<32>(Y, hat, spread, Z, scale, shift, rows, columns);
}

template <int LANES>
inline __device__ void normalized_slopes(
    stored *dZ, const stored *dY, const stored *hat, const real *spread, const real *scale, whole rows,
    int columns
) {
    int lane = threadIdx.x % LANES;
    for (whole row = first_index() / LANES; row < rows; row += all_threads() / LANES) {
        whole start = row * columns;
        real sum = 0, product = 0;
        for (int c = lane; c < columns; c += LANES) {
            real slope = widened(dY[start + c]) * scale[c];
            sum += slope;
            product += slope * widened(hat[start + c]);
        }
        sum = sum_of_lanes<LANES>(sum) / (real)columns;
        product = sum_of_lanes<LANES>(product) / (real)columns;
        for (int c = lane; c < columns; c += LANES) {
            real slope = widened(dY[start + c]) * scale[c];
            put(dZ + start + c, spread[row] * (slope - sum - widened(hat[start + c]) * product));
        }
    }
}

KERNEL layer_backward_short(
    stored *dZ, const stored *dY, const stored *hat, const real *spread, const real *scale, whole rows,
    int columns
) {
    normalized_slopes<1>(dZ, dY, hat, spread, scale, rows, columns);
}

KERNEL layer_backward_long(
    stored *dZ, const stored *dY, const stored *hat, const real *spread, const real *scale, whole rows,
    int columns
) {
    normalized_slopes<32>(dZ, dY, hat, spread, scale, rows, columns);
}
