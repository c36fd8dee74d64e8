// Optimizers by their codes, on flat vectors.

// What an update wants to know of its step; powers are taken once, not in every thread.
inline __device__ void prepare(
    double *numbers, int code, double rate, double step, double c0, double c1, double c2, double c3
) {
    double first = 1 - pow(c0, step), second = 1 - pow(c1, step);
    numbers[RATE] = rate;
    numbers[CONSTANT_0] = c0;
    numbers[CONSTANT_1] = c1;
    numbers[CONSTANT_2] = c2;
    numbers[CONSTANT_3] = c3;
    numbers[REST_0] = 1 - c0;
    numbers[REST_1] = 1 - c1;
    numbers[FIRST] = first;
    numbers[SECOND] = second;
    if (code == ADAM_EPSILON_HAT) numbers[RATE] = rate * sqrt(second) / first;
    numbers[CLIPPED] = 1;
    numbers[TRUST] = 1;
}

// One thread. The rate and the number of the update come from the clock.
KERNEL prepare_update(
    double *numbers, const word *clock, const double *rates, int code, double c0, double c1, double c2,
    double c3
) {
    if (first_index() != 0) return;
    word made = clock[CLOCK_MADE];
    double step = (double)(clock[CLOCK_STEP] + made + 1);
    // A batch without weight makes no update: the rates may have come to their end.
    double rate = numbers[LIVE] != 0 ? rates[made] : 0;
    prepare(numbers, code, rate, step, c0, c1, c2, c3);
}

// For the vocabulary alone.
KERNEL prepare_single(
    double *numbers, int code, double rate, double step, double c0, double c1, double c2, double c3
) {
    if (first_index() != 0) return;
    prepare(numbers, code, rate, step, c0, c1, c2, c3);
    numbers[LIVE] = 1;
}

KERNEL clip_values(real *g, real limit, whole n) {
    for (whole i = first_index(); i < n; i += all_threads())
        g[i] = g[i] > limit ? limit : (g[i] < -limit ? -limit : g[i]);
}

// One block. The gradient is scaled down to this Euclidean norm where it is larger.
KERNEL clip_factor(double *numbers, const double *squares, int parts, double limit) {
    double norm = sqrt(sum_of_parts(squares, parts));
    if (threadIdx.x == 0) numbers[CLIPPED] = norm > limit ? limit / norm : 1;
}

// Where LAMB goes from x, by its moments.
inline __device__ real lamb_way(real x, real u, real v, real epsilon, const double *numbers) {
    real first = (real)numbers[FIRST], second = (real)numbers[SECOND];
    return (u / first) / (root(v / second) + epsilon) + (real)numbers[CONSTANT_3] * x;
}

// What LARS and LAMB must know of a layer's weights before they move: sums of p^2, and of g^2 (LARS)
// or of LAMB's way squared, for which its moments are moved. A stretch for each of `parts` threads.
KERNEL trust_partials(
    double *squared_p, double *squared_way, const real *p, real *s0, real *s1, const real *g,
    const double *numbers, int code, int parts, whole n
) {
    if (numbers[LIVE] == 0) return;
    real clipped = (real)numbers[CLIPPED], c0 = (real)numbers[CONSTANT_0];
    real c1 = (real)numbers[CONSTANT_1], epsilon = (real)numbers[CONSTANT_2];
    real rest0 = (real)numbers[REST_0], rest1 = (real)numbers[REST_1];
    for (whole part = first_index(); part < parts; part += all_threads()) {
        double sum_p = 0, sum_way = 0;
        for (whole i = part; i < n; i += parts) {
            real x = p[i], way = numbers[CLIPPED] == 1 ? g[i] : g[i] * clipped;
            if (code == LAMB) {
                real u = c0 * s0[i] + rest0 * way, v = c1 * s1[i] + rest1 * way * way;
                s0[i] = u;
                s1[i] = v;
                way = lamb_way(x, u, v, epsilon, numbers);
            }
            sum_p += (double)x * (double)x;
            sum_way += (double)way * (double)way;
        }
        squared_p[part] = sum_p;
        squared_way[part] = sum_way;
    }
}

// One block. The trust ratio of a layer's weights; 1 where a norm is 0.
KERNEL trust_ratio(
    double *numbers, const double *squared_p, const double *squared_way, int code, int parts,
    double smallest
) {
    double p = sum_of_parts(squared_p, parts), way = sum_of_parts(squared_way, parts);
    if (threadIdx.x != 0) return;
    double ratio = 1;
    if (p > smallest && way > smallest) {
        ratio = code == LAMB
            ? sqrt(p) / sqrt(way)
            : numbers[CONSTANT_1] * sqrt(p) / (sqrt(way) + numbers[CONSTANT_2] * sqrt(p));
    }
    numbers[TRUST] = ratio;
}

// p, its slots s0 and s1, and the copy of p that products read (null where they read p itself).
KERNEL update(
    real *p, real *s0, real *s1, const real *g, stored *copy, const double *numbers, int code,
    int decays, real floor, whole n
) {
    if (numbers[LIVE] == 0) return;
    real rate = (real)numbers[RATE], clipped = (real)numbers[CLIPPED];
    real c0 = (real)numbers[CONSTANT_0], c1 = (real)numbers[CONSTANT_1];
    real c2 = (real)numbers[CONSTANT_2], rest0 = (real)numbers[REST_0], rest1 = (real)numbers[REST_1];
    real first = (real)numbers[FIRST], second = (real)numbers[SECOND];
    real shrink = decays ? (real)(numbers[RATE] * numbers[CONSTANT_3]) : (real)0;
    real trusted = (real)(numbers[RATE] * numbers[TRUST]);
    for (whole i = first_index(); i < n; i += all_threads()) {
        real x = p[i], slope = numbers[CLIPPED] == 1 ? g[i] : g[i] * clipped, u, v;
        switch (code) {
            case SGD: x -= rate * slope; break;
            case MOMENTUM:
                s0[i] = u = c0 * s0[i] + slope;
                x -= rate * u;
                break;
            case MOMENTUM_WITH_RATE:
                s0[i] = u = c0 * s0[i] - rate * slope;
                x += u;
                break;
            case NESTEROV:
                s0[i] = u = c0 * s0[i] + slope;
                x -= rate * (slope + c0 * u);
                break;
            case NESTEROV_WITH_RATE:
                s0[i] = u = c0 * s0[i] - rate * slope;
                x += c0 * u - rate * slope;
                break;
            case RMSPROP:
                s0[i] = u = c0 * s0[i] + rest0 * slope * slope;
                x -= rate * slope / (root(u) + c1);
                break;
            case ADAGRAD:
                s0[i] = u = s0[i] + slope * slope;
                x -= rate * slope / (root(u) + c0);
                break;
            case LARS:
                s0[i] = u = c0 * s0[i] - trusted * (slope + c2 * x);
                x += u;
                break;
            case LAMB: x -= trusted * lamb_way(x, s0[i], s1[i], c2, numbers); break;
            default:  // ADAM, ADAM_EPSILON_HAT, ADAMW
                s0[i] = u = c0 * s0[i] + rest0 * slope;
                s1[i] = v = c1 * s1[i] + rest1 * slope * slope;
                if (code == ADAM_EPSILON_HAT) {
                    x -= rate * u / (root(v) + c2);
                } else {
                    x -= shrink * x;
                    x -= rate * (u / first) / (root(v / second) + c2);
                }
        }
        if (floor > 0 && x < floor) x = floor;
        p[i] = x;
        if (copy) put(copy + i, x);
    }
}

// The copy that products read, of parameters that came from elsewhere.
KERNEL copy_parameters(stored *copy, const real *p, whole n) {
    for (whole i = first_index(); i < n; i += all_threads()) put(copy + i, p[i]);
}

// Results in the precision of the parameters.
KERNEL widened_copy(real *out, const stored *x, whole n) {
    for (whole i = first_index(); i < n; i += all_threads()) out[i] = widened(x[i]);
}
