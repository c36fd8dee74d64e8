// Functions of one number, with one name for both precisions.

inline __device__ float exponential(float x) { return expf(x); }
inline __device__ double exponential(double x) { return exp(x); }
inline __device__ float less_one(float x) { return expm1f(x); }
inline __device__ double less_one(double x) { return expm1(x); }
inline __device__ float logarithm(float x) { return logf(x); }
inline __device__ double logarithm(double x) { return log(x); }
inline __device__ float log_one_more(float x) { return log1pf(x); }
inline __device__ double log_one_more(double x) { return log1p(x); }
inline __device__ float hyperbolic(float x) { return tanhf(x); }
inline __device__ double hyperbolic(double x) { return tanh(x); }
inline __device__ float complement(float x) { return erfcf(x); }
inline __device__ double complement(double x) { return erfc(x); }
inline __device__ float root(float x) { return sqrtf(x); }
inline __device__ double root(double x) { return sqrt(x); }
inline __device__ float size_of(float x) { return fabsf(x); }
inline __device__ double size_of(double x) { return fabs(x); }

inline __device__ real logistic(real x) {
    real small = exponential(-size_of(x));
    return (x < 0 ? small : (real)1) / (1 + small);
}

inline __device__ real soft_plus(real x) {
    return (x > 0 ? x : (real)0) + log_one_more(exponential(-size_of(x)));
}

// Phi, the normal distribution; unlike 1 + erf it keeps its digits for negative numbers.
inline __device__ real normal(real x) {
    return (real)0.5 * complement(x * (real)-0.70710678118654752);
}

inline __device__ real sign_of(real x) {
    return x > 0 ? (real)1 : (x < 0 ? (real)-1 : x);
}

// For the vocabulary alone: y = f(x), 0 the logistic function, 1 softplus.
KERNEL elementary_map(real *y, const real *x, int which, whole n) {
    for (whole i = first_index(); i < n; i += all_threads())
        y[i] = which == 0 ? logistic(x[i]) : soft_plus(x[i]);
}
