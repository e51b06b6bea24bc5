// Measures of a frame that decide what is done with it: validity, scene cuts, and change of tiles.

#define SCENE_BLOCK 4
#define CHANGE_BLOCK 8
#define REDUCE_THREADS 512

// Sets a bit where a value is not finite, or not within (-bound, bound).
extern "C" __global__ void __launch_bounds__(BLOCK) check_values(
    const void* values, int kind, int count, float bound, u32 bit, u32* flag
) {
    u32 number = thread_number();
    if (number >= (u32)count) return;
    float value = load(values, number, kind);
    if (!(value > -bound && value < bound)) atomicOr(flag, bit);
}

// Means over blocks of 4x4 pixels: of the frame, and of what the previous frame, moved by the flow, leaves unexplained.
extern "C" __global__ void __launch_bounds__(BLOCK) scene_blocks(
    const float* luma, const float* previous, const float* flow, int height, int width, float* means, float* changes
) {
    int columns = width / SCENE_BLOCK;
    u32 number = thread_number();
    if (number >= (u32)(height / SCENE_BLOCK) * columns) return;
    int top = (int)(number / columns) * SCENE_BLOCK, left = (int)(number % columns) * SCENE_BLOCK;
    i64 plane = (i64)height * width;
    float mean = 0.0f, change = 0.0f;
    for (int y = top; y < top + SCENE_BLOCK; ++y)
        for (int x = left; x < left + SCENE_BLOCK; ++x) {
            i64 at = (i64)y * width + x;
            float u = flow ? flow[at] : 0.0f, v = flow ? flow[plane + at] : 0.0f;
            mean += luma[at];
            change += luma[at] - read_sample(previous, locate(x, y, u, v, height, width), FLOAT32);
        }
    means[number] = mean / (SCENE_BLOCK * SCENE_BLOCK);
    changes[number] = change / (SCENE_BLOCK * SCENE_BLOCK);
}

// The sum over the block of each thread's value, in an order that is always the same.
__device__ __forceinline__ float sum_block(float value, float* shared) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (int half = REDUCE_THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    float total = shared[0];
    __syncthreads();
    return total;
}

// One block. measures: the unexplained change and the frame's own contrast, means over blocks. cut: 1 where the change
// is visible and more than a share of the contrast, else 0.
extern "C" __global__ void __launch_bounds__(REDUCE_THREADS) scene_cut(
    const float* means, const float* changes, int count, float least_change, float least_share, float* measures,
    u32* cut
) {
    __shared__ float shared[REDUCE_THREADS];
    float sum = 0.0f, change = 0.0f, spread = 0.0f;
    for (int i = threadIdx.x; i < count; i += REDUCE_THREADS) {
        sum += means[i];
        change += fabsf(changes[i]);
    }
    float mean = sum_block(sum, shared) / (float)count;
    float unexplained = sum_block(change, shared) / (float)count;
    for (int i = threadIdx.x; i < count; i += REDUCE_THREADS) spread += fabsf(means[i] - mean);
    float contrast = sum_block(spread, shared) / (float)count;
    if (threadIdx.x == 0) {
        measures[0] = unexplained;
        measures[1] = contrast;
        *cut = unexplained > least_change && unexplained > least_share * contrast;
    }
}

// For each tile the largest mean absolute difference over blocks of 8x8 pixels and all channels, from what was
// seen of it before: noise weighs little in it, something small that moves weighs much. A thread computes one block.
// origins: top and left of each tile in pixels of the frame. `changes` must be zero before.
extern "C" __global__ void __launch_bounds__(BLOCK) tile_change(
    const void* frame, int kind, i64 plane_pitch, i64 row_pitch, const void* seen, const int* origins, int count,
    int channels, int rows, int columns, float* changes
) {
    int across = (columns + CHANGE_BLOCK - 1) / CHANGE_BLOCK, down = (rows + CHANGE_BLOCK - 1) / CHANGE_BLOCK;
    u32 number = thread_number();
    if (number >= (u32)count * across * down) return;
    int tile = (int)(number / (across * down)), block = (int)(number % (across * down));
    int top = block / across * CHANGE_BLOCK, left = block % across * CHANGE_BLOCK;
    int bottom = min(top + CHANGE_BLOCK, rows), right = min(left + CHANGE_BLOCK, columns);
    i64 origin = origins[2 * tile] * row_pitch + origins[2 * tile + 1];
    float sum = 0.0f;
    for (int c = 0; c < channels; ++c)
        for (int y = top; y < bottom; ++y) {
            i64 there = (((i64)tile * channels + c) * rows + y) * columns;
            float line = 0.0f;
            i64 here = c * plane_pitch + origin + y * row_pitch;
            for (int x = left; x < right; ++x) line += fabsf(load(frame, here + x, kind) - load(seen, there + x, kind));
            sum += line;
        }
    float mean = sum / (float)(channels * (bottom - top) * (right - left));
    if (!is_finite(mean)) mean = LARGEST_FLOAT;
    // Floats that are not negative have the order of their bits.
    atomicMax((u32*)changes + tile, __float_as_uint(mean));
}
