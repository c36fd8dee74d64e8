// Types, and how a number lies in memory. The text in front of this file says what `real` (computes)
// and `stored` (activations and the weights of products) are, and gives SMALLEST and EPSILON.

#define KERNEL extern "C" __global__ void __launch_bounds__(256)

typedef long long whole;
typedef unsigned long long word;

// The upper half of a float32. The type of CUDA's header would do the same, but needs the header.
struct bf16 {
    unsigned short bits;
};

struct half_bits {
    unsigned short bits;
};

union float_bits {
    float number;
    unsigned int bits;
};

inline __device__ float widened(float x) { return x; }
inline __device__ double widened(double x) { return x; }

inline __device__ float widened(unsigned char x) { return (float)x; }

inline __device__ float widened(bf16 x) {
    float_bits f;
    f.bits = (unsigned int)x.bits << 16;
    return f.number;
}

inline __device__ float widened(half_bits x) {
    unsigned int sign = (unsigned int)(x.bits & 0x8000) << 16;
    unsigned int rest = x.bits & 0x7fff;
    float_bits f;
    if (rest >= 0x7c00) {
        f.bits = sign | 0x7f800000u | (rest & 0x3ff) << 13;
        return f.number;
    }
    // The exponent's bias is 15 here and 127 there; a product moves it, subnormal numbers too.
    f.bits = rest << 13;
    f.number *= 5.192296858534828e33f;  // 2^112
    f.bits |= sign;
    return f.number;
}

inline __device__ void put(float *p, float x) { *p = x; }
inline __device__ void put(double *p, double x) { *p = x; }

// To the nearest, to even in a tie; NaN stays NaN.
inline __device__ void put(bf16 *p, float x) {
    float_bits f;
    f.number = x;
    if (x != x) {
        p->bits = (unsigned short)(f.bits >> 16 | 0x40);
        return;
    }
    p->bits = (unsigned short)((f.bits + 0x7fff + (f.bits >> 16 & 1)) >> 16);
}

inline __device__ whole first_index() { return (whole)blockIdx.x * blockDim.x + threadIdx.x; }
inline __device__ whole all_threads() { return (whole)gridDim.x * blockDim.x; }

// Runs through a matrix with one division for a thread instead of one for a number.
struct Walk {
    whole place;
    int column;
    int columns;
    int turn;
    whole stride;

    __device__ Walk(int width) {
        place = first_index();
        columns = width;
        stride = all_threads();
        column = (int)(place % width);
        turn = (int)(stride % width);
    }

    __device__ void next() {
        place += stride;
        column += turn;
        if (column >= columns) column -= columns;
    }
};

// Sums over LANES neighbouring threads, in a fixed order; every one of them gets the sum.
template <int LANES>
inline __device__ real sum_of_lanes(real x) {
    for (int distance = LANES / 2; distance > 0; distance /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

template <int LANES>
inline __device__ real largest_of_lanes(real x) {
    for (int distance = LANES / 2; distance > 0; distance /= 2) {
        real other = __shfl_xor_sync(0xffffffffu, x, distance);
        x = other > x ? other : x;
    }
    return x;
}

// Sums over a block of any power of two up to 256 threads; every thread gets the sum.
inline __device__ double sum_of_block(double x) {
    __shared__ double parts[256];
    parts[threadIdx.x] = x;
    __syncthreads();
    for (int distance = blockDim.x / 2; distance > 0; distance /= 2) {
        if ((int)threadIdx.x < distance) parts[threadIdx.x] += parts[threadIdx.x + distance];
        __syncthreads();
    }
    double sum = parts[0];
    __syncthreads();
    return sum;
}
