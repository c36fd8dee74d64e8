// Activations by their codes, which the text in front of the files defines. u and v are learned
// numbers of a unit. NaN stays NaN: that is why conditions are written the way round they are.

inline __device__ real activated(int code, real z, real constant, real u, real v) {
    real low = z < 0 ? z : (z != z ? z : (real)0);
    switch (code) {
        case SIGMOID: return logistic(z);
        case TANH: return hyperbolic(z);
        case RELU: return z <= 0 ? (real)0 : z;
        case LEAKY_RELU: return z > 0 ? z : constant * z;
        case PRELU: return z > 0 ? z : u * z;
        case ELU: return z > 0 ? z : constant * less_one(low);
        case SELU: return (real)SELU_SCALE * (z > 0 ? z : (real)SELU_ALPHA * less_one(low));
        case MPELU: return z > 0 ? z : u * less_one(v * low);
        case GELU: return z * normal(z);
        case SILU: return z * logistic(z);
        case MISH: return z * hyperbolic(soft_plus(z));
        case SOFTPLUS: return soft_plus(z);
        case EXP: return exponential(z);
        case STEP: return z > 0 ? (real)1 : (z <= 0 ? (real)0 : z);
        default: return z;
    }
}

inline __device__ real activation_slope(
    int code, real da, real z, real a, real constant, real u, real v
) {
    real low = z < 0 ? z : (z != z ? z : (real)0);
    switch (code) {
        case SIGMOID: return da * a * (1 - a);
        case TANH: return da * (1 - a * a);
        case RELU: return z > 0 ? da : (real)0;
        case LEAKY_RELU: return z > 0 ? da : constant * da;
        case PRELU: return z > 0 ? da : u * da;
        case ELU: return z > 0 ? da : da * constant * exponential(low);
        case SELU:
            return (real)SELU_SCALE * (z > 0 ? da : da * (real)SELU_ALPHA * exponential(low));
        case MPELU: return z > 0 ? da : da * u * v * exponential(v * low);
        case GELU:
            return da * (normal(z) + z * (exponential((real)-0.5 * z * z) * (real)0.3989422804014327));
        case SILU: {
            real s = logistic(z);
            return da * s * (1 + z * (1 - s));
        }
        case MISH: {
            real t = hyperbolic(soft_plus(z));
            return da * (t + z * (1 - t * t) * logistic(z));
        }
        case SOFTPLUS: return da * logistic(z);
        case EXP: return da * a;
        default: return da;
    }
}

// A = f(Z + b), and Y = Z + b where Y is wanted; Y may be Z itself. Null: no b, no Y, no u, no v.
KERNEL activation_forward(
    stored *A, stored *Y, const stored *Z, const real *b, const real *u, const real *v, real constant,
    int code, whole rows, int units
) {
    Walk walk(units);
    for (; walk.place < rows * units; walk.next()) {
        real z = widened(Z[walk.place]);
        if (b) z += b[walk.column];
        if (Y) put(Y + walk.place, z);
        real first = u ? u[walk.column] : (real)0, second = v ? v[walk.column] : (real)0;
        put(A + walk.place, activated(code, z, constant, first, second));
    }
}

// dZ may be dA itself.
KERNEL activation_backward(
    stored *dZ, const stored *dA, const stored *Z, const stored *A, const real *u, const real *v,
    real constant, int code, whole rows, int units
) {
    Walk walk(units);
    for (; walk.place < rows * units; walk.next()) {
        whole i = walk.place;
        real first = u ? u[walk.column] : (real)0, second = v ? v[walk.column] : (real)0;
        put(dZ + i, activation_slope(
            code, widened(dA[i]), widened(Z[i]), widened(A[i]), constant, first, second));
    }
}

// Sums of the gradients by u and v over `chunk` rows, as in column_partials.
KERNEL learned_partials(
    real *du, real *dv, const stored *dA, const stored *Z, const real *u, const real *v, int code,
    whole rows, int units, int chunk, int chunks
) {
    for (whole i = first_index(); i < (whole)chunks * units; i += all_threads()) {
        whole first = i / units * chunk, last = first + chunk < rows ? first + chunk : rows;
        whole unit = i % units;
        real by_u = 0, by_v = 0;
        for (whole row = first; row < last; row++) {
            real z = widened(Z[row * units + unit]), da = widened(dA[row * units + unit]);
            if (code == PRELU) {
                by_u += z > 0 ? (real)0 : da * z;
                continue;
            }
            real low = z > 0 ? (real)0 : z;
            by_u += da * less_one(v[unit] * low);
            by_v += da * u[unit] * low * exponential(v[unit] * low);
        }
        du[i] = by_u;
        if (code == MPELU) dv[i] = by_v;
    }
}

// Whether a piece of maxout takes the lead: NaN does, once.
inline __device__ bool leads(real z, real largest) {
    return z > largest || (z != z && largest == largest);
}

KERNEL maxout_forward(stored *A, const stored *Z, whole rows, int units, int pieces) {
    Walk walk(units);
    for (; walk.place < rows * units; walk.next()) {
        const stored *z = Z + walk.place / units * units * pieces + walk.column;
        real largest = widened(z[0]);
        for (int piece = 1; piece < pieces; piece++) {
            real other = widened(z[(whole)piece * units]);
            if (leads(other, largest)) largest = other;
        }
        put(A + walk.place, largest);
    }
}

KERNEL maxout_backward(
    stored *dZ, const stored *dA, const stored *Z, whole rows, int units, int pieces
) {
    Walk walk(units);
    for (; walk.place < rows * units; walk.next()) {
        whole start = walk.place / units * units * pieces + walk.column;
        int chosen = 0;
        for (int piece = 1; piece < pieces; piece++)
            if (leads(widened(Z[start + (whole)piece * units]),
                      widened(Z[start + (whole)chosen * units])))
                chosen = piece;
        for (int piece = 0; piece < pieces; piece++)
            put(dZ + start + (whole)piece * units,
                piece == chosen ? widened(dA[walk.place]) : (real)0);
    }
}

// LANES threads share a row: one where rows are short, a warp where they are long.
template <int LANES>
inline __device__ void softmax_rows(stored *A, const stored *Z, whole rows, int units) {
    int lane = threadIdx.x % LANES;
    for (whole row = first_index() / LANES; row < rows; row += all_threads() / LANES) {
        const stored *z = Z + row * units;
        real largest = widened(z[0]);
        for (int o = lane; o < units; o += LANES) {
            real other = widened(z[o]);
            if (other > largest) largest = other;
        }
        largest = largest_of_lanes<LANES>(largest);
        real sum = 0;
        for (int o = lane; o < units; o += LANES) sum += exponential(widened(z[o]) - largest);
        sum = sum_of_lanes<LANES>(sum);
        for (int o = lane; o < units; o += LANES)
            put(A + row * units + o, exponential(widened(z[o]) - largest) / sum);
    }
}

KERNEL softmax_forward_short(stored *A, const stored *Z, whole rows, int units) {
    softmax_rows<1>(A, Z, rows, units);
}

KERNEL softmax_forward_long(stored *A, const stored *Z, whole rows, int units) {
    softmax_rows<32>(A, Z, rows, units);
}

template <int LANES>
inline __device__ void softmax_slopes(
    stored *dZ, const stored *dA, const stored *A, whole rows, int units
) {
    int lane = threadIdx.x % LANES;
    for (whole row = first_index() / LANES; row < rows; row += all_threads() / LANES) {
        real sum = 0;
        for (int o = lane; o < units; o += LANES)
            sum += widened(dA[row * units + o]) * widened(A[row * units + o]);
        sum = sum_of_lanes<LANES>(sum);
        for (int o = lane; o < units; o += LANES) {
            whole i = row * units + o;
            put(dZ + i, widened(A[i]) * (widened(dA[i]) - sum));
        }
    }
}

KERNEL softmax_backward_short(
    stored *dZ, const stored *dA, const stored *A, whole rows, int units
) {
    softmax_slopes<1>(dZ, dA, A, rows, units);
}

KERNEL softmax_backward_long(
    stored *dZ, const stored *dA, const stored *A, whole rows, int units
) {
    softmax_slopes<32>(dZ, dA, A, rows, units);
}
