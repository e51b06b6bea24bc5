// YUV to RGB, RGB to YUV, and luma; see kernels/colour.py for the formulas, which are the same.

// The two chroma samples around a luma position, and the share of the second.
struct Between {
    int one, other;
    float share;
};

__device__ __forceinline__ Between between(int position, int step, float offset, int count) {
    Between b;
    if (step == 1) {
        b.one = b.other = min(position, count - 1);
        b.share = 0.0f;
        return b;
    }
    float place = ((float)position - offset) * 0.5f;
    float low = floorf(place);
    b.share = place - low;
    b.one = clamp_int((int)low, 0, count - 1);
    b.other = clamp_int((int)low + 1, 0, count - 1);
    return b;
}

__device__ __forceinline__ float read_code(const void* plane, i64 index, int wide, int shift) {
    return wide ? (float)(((const u16*)plane)[index] >> shift) : (float)((const u8*)plane)[index];
}

__device__ __forceinline__ void write_code(void* plane, i64 index, int wide, int shift, float value, float top) {
    int code = (int)clamp_float(value, 0.0f, top);
    if (wide)
        ((u16*)plane)[index] = (u16)(code << shift);
    else
        ((u8*)plane)[index] = (u8)code;
}

// One chroma value of a luma row, upsampled between the rows `v.one` and `v.other`.
__device__ __forceinline__ float mix_rows(
    const void* plane, Between v, i64 pitch, i64 at, int wide, int shift, float offset, float scale
) {
    float upper = read_code(plane, v.one * pitch + at, wide, shift);
    float lower = read_code(plane, v.other * pitch + at, wide, shift);
    return (upper * (1.0f - v.share) + lower * v.share - offset) * scale;
}

// A thread computes one pixel. Pixels of the canvas beyond the frame repeat the frame's edge.
extern "C" __global__ void __launch_bounds__(BLOCK) yuv_to_rgb(
    const void* y, i64 y_pitch, int y_step, const void* u, const void* v, i64 chroma_pitch, int chroma_step, int wide,
    int shift, int height, int width, int rows, int columns, int row_step, int column_step, float offset_y,
    float offset_x, float luma_offset, float luma_scale, float chroma_offset, float chroma_scale, float red_v,
    float green_u, float green_v, float blue_u, void* rgb, int kind, i64 plane_pitch, i64 row_pitch, int canvas_height,
    int canvas_width
) {
    u32 number = thread_number();
    if (number >= (u32)canvas_height * canvas_width) return;
    int row = (int)(number / canvas_width), column = (int)(number % canvas_width);
    int py = min(row, height - 1), px = min(column, width - 1);
    Between vertical = between(py, row_step, offset_y, rows);
    Between across = between(px, column_step, offset_x, columns);
    i64 one = (i64)across.one * chroma_step, other = (i64)across.other * chroma_step;
    float cu = mix_rows(u, vertical, chroma_pitch, one, wide, shift, chroma_offset, chroma_scale);
    float cv = mix_rows(v, vertical, chroma_pitch, one, wide, shift, chroma_offset, chroma_scale);
    if (column_step != 1) {
        float right_u = mix_rows(u, vertical, chroma_pitch, other, wide, shift, chroma_offset, chroma_scale);
        float right_v = mix_rows(v, vertical, chroma_pitch, other, wide, shift, chroma_offset, chroma_scale);
        cu = cu * (1.0f - across.share) + right_u * across.share;
        cv = cv * (1.0f - across.share) + right_v * across.share;
    }
    float luma = (read_code(y, py * y_pitch + (i64)px * y_step, wide, shift) - luma_offset) * luma_scale;
    i64 at = row * row_pitch + column;
    store(rgb, at, kind, luma + red_v * cv);
    store(rgb, at + plane_pitch, kind, luma - green_u * cu - green_v * cv);
    store(rgb, at + 2 * plane_pitch, kind, luma + blue_u * cu);
}

struct Weights {
    float kr, kg, kb;
};

struct Rgb {
    const void* planes;
    i64 plane_pitch, row_pitch;
    int kind;
};

struct Pixel {
    float red, blue, luma;
};

__device__ __forceinline__ Pixel read_pixel(Rgb rgb, i64 row, int column, Weights k) {
    i64 at = row * rgb.row_pitch + column;
    Pixel p;
    p.red = load(rgb.planes, at, rgb.kind);
    float green = load(rgb.planes, at + rgb.plane_pitch, rgb.kind);
    p.blue = load(rgb.planes, at + 2 * rgb.plane_pitch, rgb.kind);
    p.luma = k.kr * p.red + k.kg * green + k.kb * p.blue;
    return p;
}

// Colour differences of one column, filtered down the rows that a chroma sample's tent reaches.
__device__ __forceinline__ void sum_column(
    Rgb rgb, int begin, int taps, int column, int height, Weights k, float* sum_u, float* sum_v
) {
    *sum_u = *sum_v = 0.0f;
    for (int tap = 0; tap < taps; ++tap) {
        float weight = taps == 1 ? 1.0f : (taps == 2 || tap == 1 ? 0.5f : 0.25f);
        Pixel p = read_pixel(rgb, clamp_int(begin + tap, 0, height - 1), column, k);
        *sum_u += weight * (p.blue - p.luma);
        *sum_v += weight * (p.red - p.luma);
    }
}

// A thread computes one chroma sample and the luma samples that it covers.
extern "C" __global__ void __launch_bounds__(BLOCK) rgb_to_yuv(
    const void* rgb, int kind, i64 plane_pitch, i64 row_pitch, int height, int width, int rows, int columns,
    int row_step, int column_step, float offset_y, float offset_x, float kr, float kg, float kb, float luma_offset,
    float luma_span, float chroma_offset, float scale_u, float scale_v, float top, int wide, int shift, void* y,
    i64 y_pitch, int y_step, void* u, void* v, i64 chroma_pitch, int chroma_step
) {
    u32 number = thread_number();
    if (number >= (u32)rows * columns) return;
    int row = (int)(number / columns), column = (int)(number % columns);
    Rgb source = {rgb, plane_pitch, row_pitch, kind};
    Weights k = {kr, kg, kb};
    int first = row * row_step, at = column * column_step;
    for (int r = first; r < min(first + row_step, height); ++r)
        for (int c = at; c < min(at + column_step, width); ++c) {
            float luma = read_pixel(source, r, c, k).luma * luma_span + luma_offset + 0.5f;
            write_code(y, r * y_pitch + (i64)c * y_step, wide, shift, luma, top);
        }
    // One more row and column at each side where the sample lies on a luma sample.
    int taps = row_step == 1 ? 1 : (offset_y > 0.25f ? 2 : 3);
    int begin = taps < 3 ? first : first - 1;
    float one_u, one_v, next_u, next_v, last_u, last_v;
    sum_column(source, begin, taps, at, height, k, &one_u, &one_v);
    if (column_step != 1) {
        sum_column(source, begin, taps, min(at + 1, width - 1), height, k, &next_u, &next_v);
        if (offset_x > 0.25f) {
            one_u = 0.5f * (one_u + next_u);
            one_v = 0.5f * (one_v + next_v);
        } else {
            sum_column(source, begin, taps, max(at - 1, 0), height, k, &last_u, &last_v);
            one_u = 0.5f * one_u + 0.25f * (last_u + next_u);
            one_v = 0.5f * one_v + 0.25f * (last_v + next_v);
        }
    }
    i64 to = row * chroma_pitch + (i64)column * chroma_step;
    write_code(u, to, wide, shift, one_u * scale_u + chroma_offset + 0.5f, top);
    write_code(v, to, wide, shift, one_v * scale_v + chroma_offset + 0.5f, top);
}

// BT.601 luma, averaged over squares of `grid` pixels.
extern "C" __global__ void __launch_bounds__(BLOCK) rgb_to_luma(
    const void* rgb, int kind, i64 plane_pitch, i64 row_pitch, int grid, float red, float green, float blue,
    float* luma, int height, int width
) {
    u32 number = thread_number();
    if (number >= (u32)height * width) return;
    int row = (int)(number / width), column = (int)(number % width);
    float sum = 0.0f;
    for (int dy = 0; dy < grid; ++dy)
        for (int dx = 0; dx < grid; ++dx) {
            i64 at = (i64)(row * grid + dy) * row_pitch + column * grid + dx;
            sum += red * load(rgb, at, kind) + green * load(rgb, at + plane_pitch, kind) +
                   blue * load(rgb, at + 2 * plane_pitch, kind);
        }
    luma[number] = sum;
}
