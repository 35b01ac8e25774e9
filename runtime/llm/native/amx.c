#include "amx.h"

#define OUTPUTS 64
#define ROWS_AT_ONCE (2 * AMX_ROWS)
#define TILE (AMX_ROWS * AMX_INPUTS)
#define TILE_STRIDE 64 /* bytes; of sums it is that of all outputs */
#define SUMS_STRIDE (OUTPUTS * (int64_t)sizeof(float))
#define WEIGHTS_STEP (4 * TILE) /* to the weights of the next 32 inputs */
#define LINE 32 /* numbers that memory gives at once */
#define LINES_PER_STEP (ROWS_AT_ONCE / AMX_BRINGING / 2) /* a step has half of the outputs */
#define UPPER 0 /* the first rows of half a tile */
#define LOWER (AMX_ROWS / 2)

/* What the processor reads of the shapes of its 8 tiles. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t num_rows[16];
} Shapes;

/* Tiles 0 and 1 are sums of the upper rows, 2 and 3 of the lower ones; 4 and 5 inputs of both, 6 and 7 weights. */
INLINE void shape_tiles(uint8_t upper, uint8_t lower) {
    const Shapes shapes = {
        .palette = 1,
        .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
        .num_rows = {upper, upper, lower, lower, upper, lower, AMX_ROWS, AMX_ROWS},
    };
    __asm__ volatile("" : : "m"(shapes)); /* GCC 12 believes that only its first 8 bytes are read */
    _tile_loadconfig(&shapes);
}

/* Half a tile into the first cache; what lies behind the end of a memory does no harm.
 *
 * A product waits for what it loads, so that is fetched a step before. In halves, between any two instructions on
 * tiles: where another thread is busy on the same core, those take up to 1.7 times as long unless others come between. */
INLINE void fetch_half(const bfloat16 *tile, int64_t stride, int first_row) {
    for (int row = first_row; row < first_row + AMX_ROWS / 2; row++)
        _mm_prefetch((const char *)tile + row * stride, _MM_HINT_T0);
}

INLINE void clear_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* Up to 16 rows with all 64 outputs. */
INLINE void multiply_few(const bfloat16 *weight, Rows inputs, float *sums) {
    const bfloat16 *end = weight + inputs.num_inputs * OUTPUTS, *rows = inputs.numbers;
    const int64_t stride = sizeof *rows * inputs.num_inputs;
    clear_sums();
    while (weight < end) {
        const bfloat16 *next_weight = weight + WEIGHTS_STEP, *next_rows = rows + AMX_INPUTS;
        _tile_loadd(4, rows, stride);
        fetch_half(next_rows, stride, UPPER);
        _tile_loadd(6, weight, TILE_STRIDE);
        fetch_half(next_weight, TILE_STRIDE, UPPER);
        _tile_loadd(7, weight + TILE, TILE_STRIDE);
        fetch_half(next_weight, TILE_STRIDE, LOWER);
        _tile_dpbf16ps(0, 4, 6);
        fetch_half(next_weight + TILE, TILE_STRIDE, UPPER);
        _tile_dpbf16ps(1, 4, 7);
        fetch_half(next_weight + TILE, TILE_STRIDE, LOWER);
        _tile_loadd(6, weight + 2 * TILE, TILE_STRIDE);
        fetch_half(next_weight + 2 * TILE, TILE_STRIDE, UPPER);
        _tile_loadd(7, weight + 3 * TILE, TILE_STRIDE);
        fetch_half(next_weight + 2 * TILE, TILE_STRIDE, LOWER);
        _tile_dpbf16ps(2, 4, 6);
        fetch_half(next_weight + 3 * TILE, TILE_STRIDE, UPPER);
        _tile_dpbf16ps(3, 4, 7);
        fetch_half(next_weight + 3 * TILE, TILE_STRIDE, LOWER);
        fetch_half(next_rows, stride, LOWER);
        weight = next_weight;
        rows = next_rows;
    }
    _tile_stored(0, sums, SUMS_STRIDE);
    _tile_stored(1, sums + 16, SUMS_STRIDE);
    _tile_stored(2, sums + 32, SUMS_STRIDE);
    _tile_stored(3, sums + 48, SUMS_STRIDE);
}

/* Where the tiles of 32 inputs lie: of the upper rows, of the lower ones, and two of weights. */
typedef struct {
    const bfloat16 *upper, *lower, *weight;
} Step;

INLINE Step step_after(Step step) {
    return (Step){step.upper + AMX_INPUTS, step.lower + AMX_INPUTS, step.weight + WEIGHTS_STEP};
}

INLINE void bring_nearer(const bfloat16 *coming) {
    for (int line = 0; line < LINES_PER_STEP; line++)
        _mm_prefetch(coming + line * LINE, _MM_HINT_T1);
}

/* More, up to 32, with 32 outputs: each tile that is read serves twice, and the next takes its place at once. */
INLINE void multiply_more(const bfloat16 *weight, Rows inputs, float *sums, const bfloat16 *coming) {
    const int64_t stride = sizeof *weight * inputs.num_inputs;
    Step next = {inputs.numbers, inputs.numbers + AMX_ROWS * inputs.num_inputs, weight};
    clear_sums();
    _tile_loadd(4, next.upper, stride);
    _tile_loadd(5, next.lower, stride);
    _tile_loadd(6, next.weight, TILE_STRIDE);
    _tile_loadd(7, next.weight + TILE, TILE_STRIDE);
    for (int64_t input = AMX_INPUTS; input < inputs.num_inputs; input += AMX_INPUTS) {
        next = step_after(next);
        const Step fetched = step_after(next);
        _tile_dpbf16ps(0, 4, 6);
        fetch_half(fetched.upper, stride, UPPER);
        _tile_dpbf16ps(1, 4, 7);
        fetch_half(fetched.upper, stride, LOWER);
        _tile_loadd(4, next.upper, stride);
        fetch_half(fetched.weight, TILE_STRIDE, UPPER);
        _tile_dpbf16ps(2, 5, 6);
        fetch_half(fetched.weight, TILE_STRIDE, LOWER);
        _tile_loadd(6, next.weight, TILE_STRIDE);
        fetch_half(fetched.weight + TILE, TILE_STRIDE, UPPER);
        _tile_dpbf16ps(3, 5, 7);
        fetch_half(fetched.weight + TILE, TILE_STRIDE, LOWER);
        _tile_loadd(5, next.lower, stride);
        fetch_half(fetched.lower, stride, UPPER);
        _tile_loadd(7, next.weight + TILE, TILE_STRIDE);
        fetch_half(fetched.lower, stride, LOWER);
        bring_nearer(coming);
        coming += LINES_PER_STEP * LINE;
    }
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    _tile_stored(0, sums, SUMS_STRIDE);
    _tile_stored(1, sums + 16, SUMS_STRIDE);
    _tile_stored(2, sums + AMX_ROWS * OUTPUTS, SUMS_STRIDE);
    _tile_stored(3, sums + AMX_ROWS * OUTPUTS + 16, SUMS_STRIDE);
}

/* What a tile of sums gets of a tile of weights, by the very operations that the instruction is specified by (Intel's
 * manual, TDPBF16PS): sums of the products of even and of odd inputs apart, then both together. */
INLINE __m512 multiply_tile(const bfloat16 *weight, const bfloat16 *inputs) {
    const __m512i upper_half = _mm512_set1_epi32((int32_t)0xffff0000);
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    for (int pair = 0; pair < AMX_INPUTS / 2; pair++) {
        int32_t both;
        __builtin_memcpy(&both, inputs + 2 * pair, sizeof both);
        const __m512i factors = _mm512_set1_epi32(both), weights = _mm512_loadu_si512(weight + pair * AMX_INPUTS);
        even = _mm512_fmadd_ps(
            _mm512_castsi512_ps(_mm512_slli_epi32(factors, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(weights, 16)),
            even);
        odd = _mm512_fmadd_ps(
            _mm512_castsi512_ps(_mm512_and_si512(factors, upper_half)),
            _mm512_castsi512_ps(_mm512_and_si512(weights, upper_half)), odd);
    }
    return _mm512_add_ps(even, odd);
}

/* One row, to the bit as tiles have it, but read as fast as memory gives: tiles wait for what they load. */
INLINE void multiply_one(const bfloat16 *weight, Rows inputs, float *sums) {
    const uint32_t modes = _mm_getcsr();
    _mm_setcsr(modes | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON); /* as tiles always do */
    __m512 own[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t input = 0; input < inputs.num_inputs; input += AMX_INPUTS)
        for (int part = 0; part < 4; part++, weight += TILE) {
            fetch_half(weight + WEIGHTS_STEP, TILE_STRIDE, UPPER);
            fetch_half(weight + WEIGHTS_STEP, TILE_STRIDE, LOWER);
            own[part] = _mm512_add_ps(own[part], multiply_tile(weight, inputs.numbers + input));
        }
    for (int part = 0; part < 4; part++)
        _mm512_storeu_ps(sums + 16 * part, own[part]);
    _mm_setcsr(modes);
}

void amx_multiply(const bfloat16 *weight, Rows inputs, int64_t num_rows, float *sums, const bfloat16 *coming) {
    int64_t num_shaped = 0;
    if (num_rows == 1) {
        multiply_one(weight, inputs, sums);
        return;
    }
    for (; num_rows > 0; num_rows -= ROWS_AT_ONCE) {
        if (num_rows <= AMX_ROWS) {
            shape_tiles(num_rows, num_rows);
            multiply_few(weight, inputs, sums);
        } else {
            const int64_t num_own = num_rows < ROWS_AT_ONCE ? num_rows : ROWS_AT_ONCE;
            if (num_own != num_shaped)
                shape_tiles(AMX_ROWS, num_own - AMX_ROWS);
            num_shaped = num_own;
            multiply_more(weight, inputs, sums, coming);
            coming += LINES_PER_STEP * inputs.num_inputs; /* both have 32 numbers, a step and a line */
            multiply_more(weight + 2 * TILE, inputs, sums + OUTPUTS / 2, coming);
            coming += LINES_PER_STEP * inputs.num_inputs;
        }
        inputs.numbers += ROWS_AT_ONCE * inputs.num_inputs;
        sums += ROWS_AT_ONCE * OUTPUTS;
    }
    _tile_release(); /* else every switch of threads would save them */
}
