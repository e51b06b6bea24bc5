// DIS optical flow in a parallel form; see kernels/flow.py for the method and kernels/cuda/flow.py for what differs.
//
// A patch of 8x8 pixels is searched by 8 neighbouring threads, one a row; they add up by shuffles, so that a warp holds
// four patches and no barrier is needed. All lanes take part in every shuffle.

#define PATCH 8
#define STRIDE 4
#define MARGIN 16
#define ITERATIONS 6
#define SEARCH_THREADS 128
#define ALL_LANES 0xffffffffu

// Binomial 3x3 of both planes: blocks with blockIdx.y 0 smooth the first.
extern "C" __global__ void __launch_bounds__(BLOCK) smooth(
    const float* first, const float* second, int height, int width, float* first_out, float* second_out
) {
    u32 number = thread_number();
    if (number >= (u32)height * width) return;
    const float* plane = blockIdx.y == 0 ? first : second;
    float* out = blockIdx.y == 0 ? first_out : second_out;
    int y = (int)(number / width), x = (int)(number % width);
    const float* up = plane + (i64)max(y - 1, 0) * width;
    const float* middle = plane + (i64)y * width;
    const float* down = plane + (i64)min(y + 1, height - 1) * width;
    int left = max(x - 1, 0), right = min(x + 1, width - 1);
    float centre = 0.25f * up[x] + 0.5f * middle[x] + 0.25f * down[x];
    float before = 0.25f * up[left] + 0.5f * middle[left] + 0.25f * down[left];
    float after = 0.25f * up[right] + 0.5f * middle[right] + 0.25f * down[right];
    if (x == width - 1)
        out[number] = 0.75f * centre + 0.25f * before;
    else if (x == 0)
        out[number] = 0.75f * centre + 0.25f * after;
    else
        out[number] = 0.25f * before + 0.5f * centre + 0.25f * after;
}

// The next level of both planes' pyramids: means of 2x2 pixels.
extern "C" __global__ void __launch_bounds__(BLOCK) halve(
    const float* first, const float* second, int height, int width, float* first_out, float* second_out
) {
    int rows = (height + 1) / 2, columns = (width + 1) / 2;
    u32 number = thread_number();
    if (number >= (u32)rows * columns) return;
    const float* plane = blockIdx.y == 0 ? first : second;
    float* out = blockIdx.y == 0 ? first_out : second_out;
    int y = 2 * (int)(number / columns), x = 2 * (int)(number % columns);
    const float* upper = plane + (i64)y * width;
    const float* lower = plane + (i64)min(y + 1, height - 1) * width;
    int right = min(x + 1, width - 1);
    out[number] = 0.25f * (upper[x] + upper[right] + lower[x] + lower[right]);
}

// Where a displaced patch begins on the target, and the bilinear weights. Patches may leave the frame by MARGIN.
struct Place {
    int row, column;
    float w00, w01, w10, w11;
};

__device__ __forceinline__ void locate_axis(int start, float shift, int length, int* whole, float* part) {
    float low = (float)(1 - MARGIN - start), high = (float)(length + MARGIN - PATCH - 2 - start);
    shift = clamp_float(shift, low, high);
    float floor = floorf(shift);
    *whole = start + (int)floor;
    *part = shift - floor;
}

__device__ __forceinline__ Place locate_patch(int y, int x, float u, float v, int height, int width) {
    Place p;
    float fy, fx;
    locate_axis(y, v, height, &p.row, &fy);
    locate_axis(x, u, width, &p.column, &fx);
    p.w00 = (1.0f - fy) * (1.0f - fx);
    p.w01 = (1.0f - fy) * fx;
    p.w10 = fy * (1.0f - fx);
    p.w11 = fy * fx;
    return p;
}

// The sum over a patch's eight lanes, in all of them.
__device__ __forceinline__ float sum_patch(float value) {
    value += __shfl_xor_sync(ALL_LANES, value, 1);
    value += __shfl_xor_sync(ALL_LANES, value, 2);
    return value + __shfl_xor_sync(ALL_LANES, value, 4);
}

// Fills one row of the mean-free difference of a patch displaced by (u, v); returns the patch's sum of squares.
__device__ __forceinline__ float distance(
    const float* target, int height, int width, int y, int x, int lane, float u, float v, const float* patch,
    float* diff
) {
    Place p = locate_patch(y, x, u, v, height, width);
    const float* upper = target + (i64)clamp_int(p.row + lane, 0, height - 1) * width;
    const float* lower = target + (i64)clamp_int(p.row + lane + 1, 0, height - 1) * width;
    int at = clamp_int(p.column, 0, width - 1);
    float upper_left = upper[at], lower_left = lower[at], total = 0.0f;
#pragma unroll
    for (int j = 0; j < PATCH; ++j) {
        at = clamp_int(p.column + j + 1, 0, width - 1);
        float upper_right = upper[at], lower_right = lower[at];
        diff[j] = p.w00 * upper_left + p.w01 * upper_right + p.w10 * lower_left + p.w11 * lower_right - patch[j];
        total += diff[j];
        upper_left = upper_right;
        lower_left = lower_right;
    }
    float offset = sum_patch(total) / (PATCH * PATCH), squares = 0.0f;
#pragma unroll
    for (int j = 0; j < PATCH; ++j) {
        diff[j] -= offset;
        squares += diff[j] * diff[j];
    }
    return sum_patch(squares);
}

// One round of the search on one level. The first (`before` null) starts from the coarser level's flow, zeros where
// that is null too; later ones try the displacements of four neighbours `reach` patches away. Gauss-Newton refines
// every new displacement. before, after: (patches, 3) u, v and cost.
extern "C" __global__ void __launch_bounds__(SEARCH_THREADS) search(
    const float* frame, const float* target, int height, int width, int rows, int columns, const float* coarse,
    int coarse_height, int coarse_width, const float* before, int reach, float* after
) {
    int lane = threadIdx.x % PATCH, number = blockIdx.x * (SEARCH_THREADS / PATCH) + threadIdx.x / PATCH;
    bool is_inside = number < rows * columns;
    number = min(number, rows * columns - 1);
    int row = number / columns, column = number % columns;
    int y = clamp_int(row * STRIDE, 0, max(height - PATCH, 0));
    int x = clamp_int(column * STRIDE, 0, max(width - PATCH, 0));
    float patch[PATCH], gx[PATCH], gy[PATCH], diff[PATCH];
    const float* line = frame + (i64)min(y + lane, height - 1) * width;
    const float* above = frame + (i64)min(y + max(lane - 1, 0), height - 1) * width;
    const float* below = frame + (i64)min(y + min(lane + 1, PATCH - 1), height - 1) * width;
    float rise = 1.0f / (float)(min(lane + 1, PATCH - 1) - max(lane - 1, 0));
#pragma unroll
    for (int j = 0; j < PATCH; ++j) {
        int at = min(x + j, width - 1);
        patch[j] = line[at];
        gy[j] = (below[at] - above[at]) * rise;
    }
    float h00 = 0.0f, h01 = 0.0f, h11 = 0.0f;
#pragma unroll
    for (int j = 0; j < PATCH; ++j) {
        int left = j > 0 ? j - 1 : 0, right = j < PATCH - 1 ? j + 1 : PATCH - 1;
        gx[j] = (patch[right] - patch[left]) / (float)(right - left);
        h00 += gx[j] * gx[j];
        h01 += gx[j] * gy[j];
        h11 += gy[j] * gy[j];
    }
    h00 = sum_patch(h00) + 1e-4f;
    h01 = sum_patch(h01);
    h11 = sum_patch(h11) + 1e-4f;
    float scale = 1.0f / (h00 * h11 - h01 * h01);

    float u = 0.0f, v = 0.0f, best;
    bool is_active = true;
    if (before) {
        u = before[3 * number];
        v = before[3 * number + 1];
        best = before[3 * number + 2];
        is_active = false;
        for (int k = 0; k < 4; ++k) {
            int r = clamp_int(row + (k == 0 ? -reach : k == 1 ? reach : 0), 0, rows - 1);
            int c = clamp_int(column + (k == 2 ? -reach : k == 3 ? reach : 0), 0, columns - 1);
            float tu = before[3 * (r * columns + c)], tv = before[3 * (r * columns + c) + 1];
            float trial = distance(target, height, width, y, x, lane, tu, tv, patch, diff);
            if (trial < best * 0.95f) {
                best = trial;
                u = tu;
                v = tv;
                is_active = true;
            }
        }
    } else if (coarse) {
        int cy = min(min(y + PATCH / 2, height - 1) / 2, coarse_height - 1);
        int cx = min(min(x + PATCH / 2, width - 1) / 2, coarse_width - 1);
        u = 2.0f * coarse[(i64)cy * coarse_width + cx];
        v = 2.0f * coarse[(i64)(coarse_height + cy) * coarse_width + cx];
    }
    if (__any_sync(ALL_LANES, is_active)) {
        float now = distance(target, height, width, y, x, lane, u, v, patch, diff);
        if (!before) best = now;
        float tu = u, tv = v;
        for (int i = 0; i < ITERATIONS && __any_sync(ALL_LANES, is_active); ++i) {
            float b0 = 0.0f, b1 = 0.0f;
#pragma unroll
            for (int j = 0; j < PATCH; ++j) {
                b0 += gx[j] * diff[j];
                b1 += gy[j] * diff[j];
            }
            b0 = sum_patch(b0);
            b1 = sum_patch(b1);
            float du = (h11 * b0 - h01 * b1) * scale, dv = (h00 * b1 - h01 * b0) * scale;
            float size = du * du + dv * dv;
            if (size > 4.0f) {
                float shrink = 2.0f / sqrtf(size);
                du *= shrink;
                dv *= shrink;
            }
            if (is_active) {
                tu -= du;
                tv -= dv;
            }
            now = distance(target, height, width, y, x, lane, tu, tv, patch, diff);
            if (is_active && now < best) {
                best = now;
                u = tu;
                v = tv;
                is_active = size >= 4e-4f;
            } else
                is_active = false;
        }
    }
    if (is_inside && lane == 0) {
        after[3 * number] = u;
        after[3 * number + 1] = v;
        after[3 * number + 2] = best;
    }
}

// Displacements of patches to pixels: a pixel takes the mean of the patches over it, weighted by photometric error.
extern "C" __global__ void __launch_bounds__(BLOCK) densify(
    const float* frame, const float* target, int height, int width, const float* found, int rows, int columns,
    float* flow, i64 flow_plane, i64 flow_row
) {
    u32 number = thread_number();
    if (number >= (u32)height * width) return;
    int y = (int)(number / width), x = (int)(number % width);
    float value = frame[number], weight = 0.0f, sum_u = 0.0f, sum_v = 0.0f;
    // The last patch of an axis lies nearer to the one before it.
    for (int row = max((y - PATCH + STRIDE) / STRIDE, 0); row <= min(y / STRIDE + 1, rows - 1); ++row) {
        int top = clamp_int(row * STRIDE, 0, max(height - PATCH, 0));
        if (y < top || y >= top + PATCH) continue;
        for (int column = max((x - PATCH + STRIDE) / STRIDE, 0); column <= min(x / STRIDE + 1, columns - 1); ++column) {
            int left = clamp_int(column * STRIDE, 0, max(width - PATCH, 0));
            if (x < left || x >= left + PATCH) continue;
            float u = found[3 * (row * columns + column)], v = found[3 * (row * columns + column) + 1];
            Place p = locate_patch(top, left, u, v, height, width);
            i64 upper = (i64)clamp_int(p.row + y - top, 0, height - 1) * width;
            i64 lower = (i64)clamp_int(p.row + y - top + 1, 0, height - 1) * width;
            int near = clamp_int(p.column + x - left, 0, width - 1);
            int far = clamp_int(p.column + x - left + 1, 0, width - 1);
            float there = p.w00 * target[upper + near] + p.w01 * target[upper + far] + p.w10 * target[lower + near] +
                          p.w11 * target[lower + far];
            float share = 1.0f / fmaxf(0.004f, fabsf(there - value));
            weight += share;
            sum_u += share * u;
            sum_v += share * v;
        }
    }
    flow[y * flow_row + x] = sum_u / weight;
    flow[flow_plane + y * flow_row + x] = sum_v / weight;
}
