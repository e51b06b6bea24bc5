// Shared by every kernel source, which is compiled with this text before it: NVRTC needs no header then.
// Arithmetic is plain IEEE float32, compiled with --fmad=false: each operation is rounded by itself, as on a CPU.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// How an array's elements are stored.
#define FLOAT32 0
#define FLOAT16 1

// Bits of a validity flag.
#define BAD_RESULT 1u
#define BAD_STATE 2u
#define BAD_FLOW 4u

#define LARGEST_FLOAT 3.402823466e+38f

// Threads of a block, of every kernel that needs no other number.
#define BLOCK 256

#ifdef __CUDACC_RTC__
__device__ __forceinline__ float half_to_float(u16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ u16 float_to_half(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

__device__ __forceinline__ float load(const void* array, i64 index, int kind) {
    return kind == FLOAT16 ? half_to_float(((const u16*)array)[index]) : ((const float*)array)[index];
}

__device__ __forceinline__ void store(void* array, i64 index, int kind, float value) {
    if (kind == FLOAT16)
        ((u16*)array)[index] = float_to_half(value);
    else
        ((float*)array)[index] = value;
}

__device__ __forceinline__ int clamp_int(int value, int low, int high) { return min(max(value, low), high); }

// NaN becomes `low`, so that a position computed from it can be read.
__device__ __forceinline__ float clamp_float(float value, float low, float high) {
    return fminf(fmaxf(value, low), high);
}

__device__ __forceinline__ bool is_finite(float value) { return fabsf(value) <= LARGEST_FLOAT; }

// Fits: a launch has fewer than 2^31 threads.
__device__ __forceinline__ u32 thread_number() { return blockIdx.x * blockDim.x + threadIdx.x; }

// Where a backward warp reads: four neighbours and their weights, clamped to the border.
struct Sample {
    int at00, at01, at10, at11;
    float w00, w01, w10, w11;
};

__device__ __forceinline__ Sample locate(int x, int y, float u, float v, int height, int width) {
    float sx = clamp_float((float)x + u, 0.0f, (float)(width - 1));
    float sy = clamp_float((float)y + v, 0.0f, (float)(height - 1));
    int left = (int)sx, top = (int)sy;
    float fx = sx - (float)left, fy = sy - (float)top;
    int right = min(left + 1, width - 1), low = min(top + 1, height - 1);
    Sample s;
    s.at00 = top * width + left;
    s.at01 = top * width + right;
    s.at10 = low * width + left;
    s.at11 = low * width + right;
    s.w00 = (1.0f - fy) * (1.0f - fx);
    s.w01 = (1.0f - fy) * fx;
    s.w10 = fy * (1.0f - fx);
    s.w11 = fy * fx;
    return s;
}

__device__ __forceinline__ float read_sample(const void* plane, Sample s, int kind) {
    return s.w00 * load(plane, s.at00, kind) + s.w01 * load(plane, s.at01, kind) + s.w10 * load(plane, s.at10, kind) +
           s.w11 * load(plane, s.at11, kind);
}
