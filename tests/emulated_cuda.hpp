// The part of CUDA C++ that the kernels use, for a C++ compiler: they are emulated on a CPU, one block after another.
//
// A block's threads are run one by one; a thread that waits, at a barrier or in a shuffle, becomes a fibre that is
// resumed when all that it waits for have arrived. A block of which some threads wait for others that have ended is an
// error, as it is undefined on a GPU. Threads and blocks run in rising order, or in falling order: results that differ
// between the two are a race.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__ static
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static
#define __restrict__ __restrict

template <class T>
static inline T min(T one, T other) {
    return other < one ? other : one;
}

template <class T>
static inline T max(T one, T other) {
    return one < other ? other : one;
}

namespace emulation {

struct Index {
    unsigned x, y, z;
};

constexpr size_t kStackBytes = 64 << 10;
constexpr unsigned kWarp = 32, kMostThreads = 1024;
enum Wait { kNothing, kBlock, kLanes };

struct Fibre {
    ucontext_t context;
    jmp_buf jump;
    char* stack = nullptr;
    unsigned thread = 0;
    Wait wait = kNothing;
    bool is_done = true;
    void* fake_stack = nullptr;
};

struct Block {
    ucontext_t scheduler;
    jmp_buf jump;
    const void* scheduler_stack = nullptr;
    size_t scheduler_size = 0;
    Fibre fibres[kMostThreads];
    void (*body)(void*) = nullptr;
    void* argument = nullptr;
    unsigned threads = 0, next = 0;
    bool is_falling = false;
    float lanes[2][kMostThreads];
    unsigned shuffles[kMostThreads];
};

static Block block;
static Fibre* current = nullptr;
static Index thread_index, block_index, block_size, grid_size;

static void select(Fibre* fibre) {
    current = fibre;
    unsigned t = fibre->thread;
    thread_index = {t % block_size.x, t / block_size.x % block_size.y, t / block_size.x / block_size.y};
}

// To the scheduler. Jumps are ten times as fast as contexts, which call the system, but the sanitiser is told of these.
static void leave(Fibre* fibre) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fibre->fake_stack, block.scheduler_stack, block.scheduler_size);
    swapcontext(&fibre->context, &block.scheduler);
    __sanitizer_finish_switch_fiber(fibre->fake_stack, &block.scheduler_stack, &block.scheduler_size);
#else
    if (!_setjmp(fibre->jump)) _longjmp(block.jump, 1);
#endif
}

// What a fibre does for ever: one thread after another until a block has none left.
static void enter() {
    Fibre* fibre = current;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_size);
#endif
    for (;;) {
        while (block.next < block.threads) {
            unsigned place = block.next++;
            fibre->thread = block.is_falling ? block.threads - 1 - place : place;
            select(fibre);
            block.body(block.argument);
        }
        fibre->is_done = true;
        leave(fibre);
    }
}

static void resume(Fibre* fibre) {
    select(fibre);
    bool is_new = !fibre->stack;
    if (is_new) {
        fibre->stack = static_cast<char*>(std::malloc(kStackBytes));
        getcontext(&fibre->context);
        fibre->context.uc_stack.ss_sp = fibre->stack;
        fibre->context.uc_stack.ss_size = kStackBytes;
        fibre->context.uc_link = nullptr;
        makecontext(&fibre->context, enter, 0);
    }
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fibre->stack, kStackBytes);
    swapcontext(&block.scheduler, &fibre->context);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    if (!_setjmp(block.jump)) {
        if (is_new) setcontext(&fibre->context);
        _longjmp(fibre->jump, 1);
    }
#endif
}

static void wait(Wait kind) {
    Fibre* fibre = current;
    fibre->wait = kind;
    leave(fibre);
    select(fibre);
}

[[noreturn]] static void fail(const char* message) {
    std::fprintf(stderr, "emulated kernel: %s\n", message);
    std::abort();
}

static void run_block() {
    block.next = 0;
    unsigned used = 0;
    while (block.next < block.threads) {
        Fibre* fibre = &block.fibres[used++];
        fibre->is_done = false;
        fibre->wait = kNothing;
        resume(fibre);
    }
    for (;;) {
        unsigned waiting = 0, left = 0, lanes[kMostThreads / kWarp] = {};
        for (unsigned i = 0; i < used; ++i) {
            Fibre* fibre = &block.fibres[i];
            if (fibre->is_done) continue;
            ++left;
            if (fibre->wait == kBlock) ++waiting;
            if (fibre->wait == kLanes) ++lanes[fibre->thread / kWarp];
        }
        if (!left) return;
        bool is_moved = false;
        for (unsigned i = 0; i < used; ++i) {
            Fibre* fibre = &block.fibres[i];
            if (fibre->is_done) continue;
            unsigned warp = fibre->thread / kWarp, size = min(kWarp, block.threads - warp * kWarp);
            if ((fibre->wait == kBlock && waiting == block.threads) || (fibre->wait == kLanes && lanes[warp] == size)) {
                fibre->wait = kNothing;
                resume(fibre);
                is_moved = true;
            }
        }
        if (!is_moved) fail("some threads of a block wait for others that have ended or wait elsewhere");
    }
}

// A value of each lane of the warp, by lane; the next exchange uses the other row, so that one wait is enough.
static const float* exchange(float value) {
    unsigned t = current->thread;
    float* row = block.lanes[block.shuffles[t]++ % 2];
    row[t] = value;
    wait(kLanes);
    return &row[t / kWarp * kWarp];
}

template <class... A, size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

template <class T>
constexpr char code() {
    if (std::is_pointer_v<T>) return 'P';
    if (std::is_floating_point_v<T>) return sizeof(T) == 4 ? 'f' : 'd';
    if (std::is_unsigned_v<T>) return sizeof(T) == 4 ? 'I' : 'Q';
    return sizeof(T) == 4 ? 'i' : 'q';
}

template <class... A>
static const char* signature(void (*)(A...)) {
    static const char codes[] = {code<A>()..., '\0'};
    return codes;
}

template <class... A>
static void launch(void (*kernel)(A...), const unsigned* size, bool is_falling, void** arguments) {
    struct Call {
        void (*kernel)(A...);
        void** arguments;
    } one{kernel, arguments};
    grid_size = {size[0], size[1], size[2]};
    block_size = {size[3], size[4], size[5]};
    block.threads = size[3] * size[4] * size[5];
    block.is_falling = is_falling;
    block.argument = &one;
    block.body = [](void* that) {
        Call* it = static_cast<Call*>(that);
        call(it->kernel, it->arguments, std::index_sequence_for<A...>());
    };
    std::memset(block.lanes, 0, sizeof block.lanes);
    // CuPy compiles with -ftz=true: float32 numbers below 2^-126 are zeros.
#if defined(__SSE__)
    unsigned control = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(control | 0x8040);
#endif
    unsigned blocks = size[0] * size[1] * size[2];
    for (unsigned i = 0; i < blocks; ++i) {
        unsigned b = is_falling ? blocks - 1 - i : i;
        block_index = {b % size[0], b / size[0] % size[1], b / size[0] / size[1]};
        std::memset(block.shuffles, 0, sizeof block.shuffles);
        run_block();
    }
#if defined(__SSE__)
    __builtin_ia32_ldmxcsr(control);
#endif
}

}  // namespace emulation

#define threadIdx emulation::thread_index
#define blockIdx emulation::block_index
#define blockDim emulation::block_size
#define gridDim emulation::grid_size

static inline void __syncthreads() { emulation::wait(emulation::kBlock); }

static inline float __shfl_xor_sync(unsigned lanes, float value, unsigned other) {
    if (lanes != 0xffffffffu) emulation::fail("a shuffle of part of a warp is not emulated");
    unsigned lane = emulation::current->thread % emulation::kWarp;
    return emulation::exchange(value)[lane ^ other];
}

static inline int __any_sync(unsigned lanes, int is_set) {
    if (lanes != 0xffffffffu) emulation::fail("a vote of part of a warp is not emulated");
    const float* all = emulation::exchange(is_set ? 1.0f : 0.0f);
    int any = 0;
    for (unsigned i = 0; i < emulation::kWarp; ++i) any |= all[i] != 0.0f;
    return any;
}

static inline unsigned atomicOr(unsigned* at, unsigned bits) {
    unsigned old = *at;
    *at = old | bits;
    return old;
}

static inline unsigned atomicAdd(unsigned* at, unsigned value) {
    unsigned old = *at;
    *at = old + value;
    return old;
}

static inline unsigned atomicMax(unsigned* at, unsigned value) {
    unsigned old = *at;
    *at = max(old, value);
    return old;
}

static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

#if defined(__aarch64__)
using half_value = __fp16;
#else
using half_value = _Float16;
#endif

static inline float half_to_float(unsigned short bits) {
    half_value value;
    std::memcpy(&value, &bits, sizeof value);
    return (float)value;
}

static inline unsigned short float_to_half(float value) {
    half_value half = (half_value)value;
    unsigned short bits;
    std::memcpy(&bits, &half, sizeof bits);
    return bits;
}
