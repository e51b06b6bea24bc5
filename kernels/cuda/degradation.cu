// How degraded a frame is, from its Haar coefficients; see runtime/video/degradation.py for the measures.

#define DESCRIBE_THREADS 1024
#define BINS 2048

// One Haar level of 2x2 blocks: magnitudes of the diagonal and the axial coefficients, and the next level's plane.
// Of a high frame only every `band_step`th band of `band` rows is read; rows: those that are.
extern "C" __global__ void __launch_bounds__(BLOCK) haar(
    const float* plane, int rows, int width, int band, int band_step, float* diagonal, float* axial, float* low
) {
    int columns = width / 2;
    u32 number = thread_number();
    if (number >= (u32)(rows / 2) * columns) return;
    int row = 2 * (int)(number / columns), column = 2 * (int)(number % columns);
    const float* upper = plane + (i64)(row / band * band * band_step + row % band) * width + column;
    row += 1;
    const float* lower = plane + (i64)(row / band * band * band_step + row % band) * width + column;
    float a = upper[0], b = upper[1], c = lower[0], d = lower[1];
    diagonal[number] = fabsf(a - b - c + d) * 0.5f;
    axial[number] = (fabsf(a + b - c - d) + fabsf(a - b + c - d)) / 4.0f;
    low[number] = (a + b + c + d) * 0.25f;
}

__device__ __forceinline__ float sum_block(float value, float* shared) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (int half = DESCRIBE_THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    float total = shared[0];
    __syncthreads();
    return total;
}

// The value of a rank among values that are not negative, whose order is that of their bits: 11, 11 and 10 bits at a
// time, by a histogram of those whose higher bits are known to be right.
__device__ __forceinline__ float select_rank(const float* values, int count, int rank, u32* histogram, u32* found) {
    u32 prefix = 0, known = 0, left = rank;
    for (int shift = 21; shift >= 0; shift = shift == 21 ? 10 : shift - 10) {
        for (int i = threadIdx.x; i < BINS; i += DESCRIBE_THREADS) histogram[i] = 0;
        __syncthreads();
        u32 digits = shift == 0 ? 1024 : BINS;
        for (int i = threadIdx.x; i < count; i += DESCRIBE_THREADS) {
            u32 bits = __float_as_uint(values[i]);
            if ((bits & known) == prefix) atomicAdd(histogram + (bits >> shift) % digits, 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            u32 digit = 0;
            while (digit + 1 < digits && histogram[digit] <= left) left -= histogram[digit++];
            found[0] = digit;
            found[1] = left;
        }
        __syncthreads();
        prefix |= found[0] << shift;
        left = found[1];
        known |= (digits - 1) << shift;
        __syncthreads();
    }
    return __uint_as_float(prefix);
}

// The mean of the two middle values, or the middle one.
__device__ __forceinline__ float find_median(
    const float* values, int count, float* shared, u32* histogram, u32* found
) {
    float low = select_rank(values, count, (count - 1) / 2, histogram, found);
    float below = 0.0f, next = LARGEST_FLOAT;
    for (int i = threadIdx.x; i < count; i += DESCRIBE_THREADS) {
        if (values[i] <= low)
            below += 1.0f;
        else
            next = fminf(next, values[i]);
    }
    float up_to = sum_block(below, shared);
    shared[threadIdx.x] = next;
    __syncthreads();
    for (int half = DESCRIBE_THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] = fminf(shared[threadIdx.x], shared[threadIdx.x + half]);
        __syncthreads();
    }
    next = shared[0];
    __syncthreads();
    return (low + (up_to > (float)(count / 2) ? low : next)) * 0.5f;
}

// One block. For each of two levels: the median and mean diagonal and the mean axial magnitude as logarithms, and the
// share of diagonals that are almost zero.
extern "C" __global__ void __launch_bounds__(DESCRIBE_THREADS) describe(
    const float* diagonal, const float* axial, int count, const float* coarse_diagonal, const float* coarse_axial,
    int coarse_count, float smallest, float small, void* out, int kind
) {
    __shared__ float shared[DESCRIBE_THREADS];
    __shared__ u32 histogram[BINS];
    __shared__ u32 found[2];
    for (int level = 0; level < 2; ++level) {
        const float* across = level == 0 ? diagonal : coarse_diagonal;
        const float* along = level == 0 ? axial : coarse_axial;
        int length = level == 0 ? count : coarse_count;
        float median = find_median(across, length, shared, histogram, found);
        float sum = 0.0f, axial_sum = 0.0f, zeros = 0.0f;
        for (int i = threadIdx.x; i < length; i += DESCRIBE_THREADS) {
            sum += across[i];
            axial_sum += along[i];
            zeros += across[i] < small ? 1.0f : 0.0f;
        }
        float mean = sum_block(sum, shared) / (float)length;
        float axial_mean = sum_block(axial_sum, shared) / (float)length;
        float share = sum_block(zeros, shared) / (float)length;
        if (threadIdx.x == 0) {
            store(out, 4 * level, kind, (log2f(median + smallest) + 7.5f) / 3.0f);
            store(out, 4 * level + 1, kind, (log2f(mean + smallest) + 7.5f) / 3.0f);
            store(out, 4 * level + 2, kind, (log2f(axial_mean + smallest) + 7.5f) / 3.0f);
            store(out, 4 * level + 3, kind, 2.0f * share - 1.0f);
        }
    }
}
