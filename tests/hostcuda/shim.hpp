// CUDA's words for the host compiler: a block's threads run one after the other, in a chosen order.
//
// Kernels without barriers are plain calls. In the others each thread is a fiber that runs to its
// next barrier or warp shuffle; then comes the next thread. What this can't show: weak memory order
// and races inside one order.

#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <ucontext.h>

#define __global__
#define __device__
#define __launch_bounds__(threads)
#define __shared__ static __attribute__((section("block_memory")))

struct Place {
    unsigned int x, y, z;
};

static Place threadIdx, blockIdx, blockDim, gridDim;

namespace host {

enum State { READY, AT_BARRIER, AT_SHUFFLE, DONE };

constexpr int MOST = 256, STACK = 1 << 16;

struct Fiber {
    jmp_buf place;
    bool begun = false;
    State state = READY;
    unsigned shuffles = 0;
    char *stack = nullptr;
};

static Fiber fibers[MOST];
static jmp_buf scheduler;
static ucontext_t main_context;
static int current = -1;
static void (*body)(void **) = nullptr;
static void **arguments = nullptr;
static const char *trouble = nullptr;
static uint64_t exchanged[2][MOST];
static char empty_section __attribute__((section("block_memory"), used));
extern "C" char __start_block_memory, __stop_block_memory;

static void fiber_main() {
    for (;;) {
        body(arguments);
        fibers[current].state = DONE;
        if (_setjmp(fibers[current].place) == 0) _longjmp(scheduler, 1);
    }
}

// Gives way to the other threads of the block.
static void wait_as(State state) {
    if (current < 0) {
        std::fprintf(stderr, "a barrier in a kernel that was taken for one without\n");
        std::abort();
    }
    fibers[current].state = state;
    if (_setjmp(fibers[current].place) == 0) _longjmp(scheduler, 1);
}

static void resume(int thread) {
    current = thread;
    threadIdx.x = thread;
    Fiber &fiber = fibers[thread];
    if (_setjmp(scheduler) == 0) {
        if (fiber.begun) _longjmp(fiber.place, 1);
        fiber.begun = true;
        if (!fiber.stack) fiber.stack = static_cast<char *>(std::malloc(STACK));
        ucontext_t context;
        getcontext(&context);
        context.uc_stack.ss_sp = fiber.stack;
        context.uc_stack.ss_size = STACK;
        context.uc_link = nullptr;
        makecontext(&context, fiber_main, 0);
        swapcontext(&main_context, &context);
    }
    current = -1;
}

static bool release(int first, int last, State state) {
    int waiting = 0, done = 0;
    for (int t = first; t < last; t++) {
        waiting += fibers[t].state == state;
        done += fibers[t].state == DONE;
    }
    if (waiting && waiting + done == last - first && done)
        trouble = "some threads wait where others have left";
    if (!waiting || waiting != last - first) return false;
    for (int t = first; t < last; t++) fibers[t].state = READY;
    return true;
}

static void run_block(const int *order, int threads) {
    for (int t = 0; t < threads; t++) fibers[t].state = READY, fibers[t].shuffles = 0;
    std::memset(&__start_block_memory, 0xff, &__stop_block_memory - &__start_block_memory);
    for (;;) {
        for (int i = 0; i < threads; i++)
            if (fibers[order[i]].state == READY) resume(order[i]);
        bool left = false, moved = false;
        for (int t = 0; t < threads; t++) left |= fibers[t].state != DONE;
        if (!left) return;
        moved |= release(0, threads, AT_BARRIER);
        for (int t = 0; t < threads; t += 32)
            moved |= release(t, t + 32 < threads ? t + 32 : threads, AT_SHUFFLE);
        if (!moved && !trouble) trouble = "threads wait in different places";
        if (trouble) {
            // The fibers stand in the middle of something: others take their place.
            for (int t = 0; t < threads; t++) fibers[t] = Fiber();
            return;
        }
    }
}

static void make_order(int *order, int threads, int kind, unsigned seed) {
    for (int t = 0; t < threads; t++) order[t] = kind == 1 ? threads - 1 - t : t;
    if (kind != 2) return;
    for (int t = threads - 1; t > 0; t--) {
        seed = seed * 1664525u + 1013904223u;
        int other = (seed >> 8) % (t + 1), kept = order[t];
        order[t] = order[other];
        order[other] = kept;
    }
}

// kind: 0 forward, 1 backward, 2 by chance; returns what went wrong, or null.
static const char *run(
    void (*kernel)(void **), void **given, int grid, int block, bool fibered, int kind, unsigned seed
) {
    static int order[MOST];
    body = kernel, arguments = given, trouble = nullptr;
    gridDim = {(unsigned)grid, 1, 1};
    blockDim = {(unsigned)block, 1, 1};
    threadIdx = blockIdx = {0, 0, 0};
    make_order(order, block, kind, seed);
    for (int b = 0; b < grid && !trouble; b++) {
        blockIdx.x = kind == 1 ? grid - 1 - b : b;
        if (fibered) {
            run_block(order, block);
            continue;
        }
        for (int i = 0; i < block; i++) {
            threadIdx.x = order[i];
            kernel(given);
        }
    }
    return trouble;
}

}  // namespace host

static inline void __syncthreads() { host::wait_as(host::AT_BARRIER); }

template <typename Number>
static inline Number __shfl_xor_sync(unsigned int mask, Number x, int distance) {
    static_assert(sizeof(Number) <= 8);
    int own = host::current;
    uint64_t *slots = host::exchanged[own < 0 ? 0 : host::fibers[own].shuffles++ % 2];
    if (own >= 0) std::memcpy(slots + own, &x, sizeof x);
    if (mask != 0xffffffffu) host::trouble = "a shuffle of a part of a warp";
    host::wait_as(host::AT_SHUFFLE);
    Number other;
    std::memcpy(&other, slots + (own ^ distance), sizeof other);
    return other;
}

// Device functions have internal linkage here, so that block memory in them can have a section.
#define inline static
