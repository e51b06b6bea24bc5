// Warp of states, and a tile's way between the canvases and the engine's buffers.
//
// Planes of several arrays are named by a table of their addresses, one entry a channel, so that one launch reads or
// writes all states, whichever arrays they lie in.

// Channels that a thread handles, so that positions and weights are computed once for them.
#define CHANNELS 8

// All channels of one array, warped along a flow; positions are clamped to the border.
extern "C" __global__ void __launch_bounds__(BLOCK) warp(
    const void* state, int state_kind, int channels, int height, int width, const float* flow, i64 flow_plane,
    i64 flow_row, int top, int left, int rows, int columns, void* out, int out_kind, i64 out_plane, i64 out_row,
    u32* flag
) {
    u32 pixels = (u32)rows * columns, number = thread_number();
    int chunk = (int)(number / pixels);
    u32 pixel = number % pixels;
    if (chunk * CHANNELS >= channels) return;
    int row = (int)(pixel / columns), column = (int)(pixel % columns);
    float u = flow[row * flow_row + column], v = flow[flow_plane + row * flow_row + column];
    if (flag && !(is_finite(u) && is_finite(v))) atomicOr(flag, BAD_FLOW);
    Sample sample = locate(left + column, top + row, u, v, height, width);
    i64 element = state_kind == FLOAT16 ? 2 : 4, plane = (i64)height * width;
    for (int c = chunk * CHANNELS; c < min((chunk + 1) * CHANNELS, channels); ++c) {
        float value = read_sample((const char*)state + c * plane * element, sample, state_kind);
        store(out, c * out_plane + row * out_row + column, out_kind, value);
    }
}

// A tile of the frame, and the states warped to it, into the engine's inputs. Frame positions outside the canvas read
// its border; states are zeros where `reset` is set: by a scene cut, or for a clean second try.
// The first `frame_blocks` blocks copy the frame, the others warp.
extern "C" __global__ void __launch_bounds__(BLOCK) gather_tile(
    const void* frame, int frame_kind, i64 frame_plane, i64 frame_row, int frame_height, int frame_width,
    int frame_top, int frame_left, int tile_height, int tile_width, void* out, int out_kind, int frame_blocks,
    const u64* states, int state_kind, int channels, int height, int width, const float* flow, i64 flow_plane,
    i64 flow_row, int top, int left, int rows, int columns, const u64* warped, int warped_kind, const u32* reset,
    u32* flag
) {
    if (blockIdx.x < frame_blocks) {
        u32 number = thread_number(), pixels = (u32)tile_height * tile_width;
        if (number >= 3 * pixels) return;
        int c = (int)(number / pixels);
        u32 pixel = number % pixels;
        int y = clamp_int(frame_top + (int)(pixel / tile_width), 0, frame_height - 1);
        int x = clamp_int(frame_left + (int)(pixel % tile_width), 0, frame_width - 1);
        store(out, number, out_kind, load(frame, c * frame_plane + y * frame_row + x, frame_kind));
        return;
    }
    u32 pixels = (u32)rows * columns, number = thread_number() - (u32)frame_blocks * blockDim.x;
    int chunk = (int)(number / pixels);
    u32 pixel = number % pixels;
    if (chunk * CHANNELS >= channels) return;
    int last = min((chunk + 1) * CHANNELS, channels);
    if (reset && *reset) {
        for (int c = chunk * CHANNELS; c < last; ++c) store((void*)warped[c], pixel, warped_kind, 0.0f);
        return;
    }
    int y = clamp_int(top + (int)(pixel / columns), 0, height - 1);
    int x = clamp_int(left + (int)(pixel % columns), 0, width - 1);
    float u = flow[y * flow_row + x], v = flow[flow_plane + y * flow_row + x];
    if (flag && !(is_finite(u) && is_finite(v))) atomicOr(flag, BAD_FLOW);
    Sample sample = locate(x, y, u, v, height, width);
    for (int c = chunk * CHANNELS; c < last; ++c)
        store((void*)warped[c], pixel, warped_kind, read_sample((const void*)states[c], sample, state_kind));
}

// The kept part of a tile's result and states onto their canvases; all of the tile is checked, its halo too.
// keep_*: the kept part in pixels of the states' plane, on the canvas; `factor` times that on the result's.
extern "C" __global__ void __launch_bounds__(BLOCK) scatter_tile(
    const void* result, int result_kind, void* canvas, int canvas_kind, i64 canvas_plane, i64 canvas_row, int factor,
    int result_blocks, const u64* states, int state_kind, const u64* canvases, int canvases_kind, int channels,
    int width, int top, int left, int rows, int columns, int keep_top, int keep_left, int keep_bottom, int keep_right,
    float bound, u32* flag
) {
    if (blockIdx.x < result_blocks) {
        u32 number = thread_number(), pixels = (u32)rows * columns * factor * factor;
        if (number >= 3 * pixels) return;
        int c = (int)(number / pixels);
        u32 pixel = number % pixels;
        int y = top * factor + (int)(pixel / (columns * factor)), x = left * factor + (int)(pixel % (columns * factor));
        float value = load(result, number, result_kind);
        if (!(value > -bound && value < bound)) atomicOr(flag, BAD_RESULT);
        if (y >= keep_top * factor && y < keep_bottom * factor && x >= keep_left * factor && x < keep_right * factor)
            store(canvas, c * canvas_plane + y * canvas_row + x, canvas_kind, value);
        return;
    }
    u32 pixels = (u32)rows * columns, number = thread_number() - (u32)result_blocks * blockDim.x;
    int chunk = (int)(number / pixels);
    u32 pixel = number % pixels;
    int y = top + (int)(pixel / columns), x = left + (int)(pixel % columns);
    bool is_kept = y >= keep_top && y < keep_bottom && x >= keep_left && x < keep_right;
    for (int c = chunk * CHANNELS; c < min((chunk + 1) * CHANNELS, channels); ++c) {
        float value = load((const void*)states[c], pixel, state_kind);
        if (!is_finite(value)) atomicOr(flag, BAD_STATE);
        if (is_kept) store((void*)canvases[c], (i64)y * width + x, canvases_kind, value);
    }
}

// A tile's weighted result onto the sum, and its weight onto the sum of weights.
extern "C" __global__ void __launch_bounds__(BLOCK) add_tile(
    const void* result, int result_kind, const float* window, int channels, int rows, int columns, int top, int left,
    float* total, i64 total_plane, i64 total_row, float* weight, i64 weight_row
) {
    u32 number = thread_number();
    if (number >= (u32)rows * columns) return;
    int row = (int)(number / columns), column = (int)(number % columns);
    float share = window[number];
    i64 at = (top + row) * total_row + left + column;
    for (int c = 0; c < channels; ++c)
        total[c * total_plane + at] += load(result, c * (i64)rows * columns + number, result_kind) * share;
    weight[(top + row) * weight_row + left + column] += share;
}

// The blended sum, divided by the sum of weights.
extern "C" __global__ void __launch_bounds__(BLOCK) divide_by_weight(
    float* total, const float* weight, int channels, int pixels
) {
    u32 number = thread_number();
    if (number >= (u32)pixels) return;
    float sum = weight[number];
    for (int c = 0; c < channels; ++c) total[c * (i64)pixels + number] /= sum;
}
