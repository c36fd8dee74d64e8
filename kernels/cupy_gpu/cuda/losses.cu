// Losses by their codes: each number's term and its slope. A joined loss is a code of its own that
// reads Z where the others read A.

inline __device__ real cut(real a, real low) { return a < low ? low : a; }

inline __device__ real loss_term(int code, real constant, real a, real t, real outputs, real *slope) {
    real d = a - t;
    switch (code) {
        case CROSS_ENTROPY: {
            real p = cut(a, (real)SMALLEST);
            *slope = -t / p;
            return -t * logarithm(p);
        }
        case BINARY_CROSS_ENTROPY: {
            real p = cut(a, (real)EPSILON);
            p = p > 1 - (real)EPSILON ? 1 - (real)EPSILON : p;
            *slope = (p - t) / (p * (1 - p));
            return -(t * logarithm(p) + (1 - t) * log_one_more(-p));
        }
        case POISSON: {
            real p = cut(a, (real)SMALLEST);
            *slope = 1 - t / p;
            return a - t * logarithm(p);
        }
        case SQUARED_ERROR: *slope = 2 * d; return d * d;
        case HALF_SQUARED_ERROR: *slope = d; return (real)0.5 * d * d;
        case MEAN_SQUARED_ERROR: *slope = 2 * d / outputs; return d * d / outputs;
        case ABSOLUTE_ERROR: *slope = sign_of(d); return size_of(d);
        case MEAN_ABSOLUTE_ERROR: *slope = sign_of(d) / outputs; return size_of(d) / outputs;
        case HUBER: {
            real size = size_of(d), inner = size > constant ? constant : size;
            *slope = d > constant ? constant : (d < -constant ? -constant : d);
            return inner * (size - (real)0.5 * inner);
        }
        case QUANTILE: {
            real error = -d;
            *slope = error > 0 ? -constant : (error < 0 ? 1 - constant : error);
            return error > 0 ? constant * error : (constant - 1) * error;
        }
        case HINGE: {
            real gap = 1 - t * a;
            *slope = gap > 0 ? -t : (gap <= 0 ? (real)0 : gap);
            return gap <= 0 ? (real)0 : gap;
        }
        case SQUARED_HINGE: {
            real gap = 1 - t * a;
            gap = gap <= 0 ? (real)0 : gap;
            *slope = -2 * t * gap;
            return gap * gap;
        }
        case EXPONENTIAL: {
            real e = exponential(-t * a);
            *slope = -t * e;
            return e;
        }
        case PERCEPTRON: {
            real gap = -t * a;
            *slope = gap >= 0 ? -t : (gap < 0 ? (real)0 : gap);
            return gap <= 0 ? (real)0 : gap;
        }
        case CROSS_ENTROPY_SIGMOID:
            *slope = -t * logistic(-a);
            return t * soft_plus(-a);
        case BINARY_CROSS_ENTROPY_SIGMOID:
            *slope = logistic(a) - t;
            return (a > 0 ? a : (real)0) - a * t + log_one_more(exponential(-size_of(a)));
        default: {  // POISSON_EXP
            real e = exponential(a);
            *slope = e - t;
            return e - t * a;
        }
    }
}

// Row losses and the gradient D by A (by Z for a joined loss), times w and the batch's share.
// Null: no losses, no D, no w, no numbers (a share of 1); labels or T. D may be A itself.
template <int LANES>
inline __device__ void loss_rows(
    real *losses, stored *D, const stored *A, const whole *labels, const real *T, const real *w,
    const double *numbers, int code, real constant, whole rows, int outputs
) {
    int lane = threadIdx.x % LANES;
    for (whole row = first_index() / LANES; row < rows; row += all_threads() / LANES) {
        real scale = numbers ? (real)numbers[DATA_SHARE] : (real)1;
        if (w) scale *= w[row];
        const stored *a = A + row * outputs;
        int label = labels ? (int)labels[row] : 0;
        real largest = 0, sum = 1, shift = 0;
        if (code == CROSS_ENTROPY_SOFTMAX) {
            largest = widened(a[0]);
            for (int o = lane; o < outputs; o += LANES) {
                real other = widened(a[o]);
                if (other > largest) largest = other;
            }
            largest = largest_of_lanes<LANES>(largest);
            sum = 0;
            for (int o = lane; o < outputs; o += LANES) sum += exponential(widened(a[o]) - largest);
            sum = sum_of_lanes<LANES>(sum);
            shift = logarithm(sum);
        }
        real total = 0;
        for (int o = lane; o < outputs; o += LANES) {
            real t = labels ? (real)(label == o) : T[row * outputs + o];
            real z = widened(a[o]), slope, term;
            if (code == CROSS_ENTROPY_SOFTMAX) {
                slope = exponential(z - largest) / sum - t;
                term = t * (shift - (z - largest));
            } else {
                term = loss_term(code, constant, z, t, (real)outputs, &slope);
            }
            total += term;
            if (D) put(D + row * outputs + o, slope * scale);
        }
        total = sum_of_lanes<LANES>(total);
        if (losses && lane == 0) losses[row] = total;
    }
}

KERNEL loss_short(
    real *losses, stored *D, const stored *A, const whole *labels, const real *T, const real *w,
    const double *numbers, int code, real constant, whole rows, int outputs
) {
    loss_rows<1>(losses, D, A, labels, T, w, numbers, code, constant, rows, outputs);
}

KERNEL loss_long(
    real *losses, stored *D, const stored *A, const whole *labels, const real *T, const real *w,
    const double *numbers, int code, real constant, whole rows, int outputs
) {
    loss_rows<32>(losses, D, A, labels, T, w, numbers, code, constant, rows, outputs);
}
