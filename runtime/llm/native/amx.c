#include "amx.h"

#define OUTPUTS 64
#define ROWS_AT_ONCE (2 * AMX_ROWS)
#define TILE (AMX_ROWS * AMX_INPUTS)
#define TILE_STRIDE 64 /* bytes; of sums it is that of all outputs */
#define SUMS_STRIDE (OUTPUTS * (int64_t)sizeof(float))
#define AHEAD 1 /* times 32 inputs; a product waits for its weights, so they are fetched before */

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

/* Into the first cache; what lies behind the end of a memory does no harm. */
INLINE void fetch_tile(const bfloat16 *tile, int64_t stride) {
    for (int row = 0; row < AMX_ROWS; row++)
        _mm_prefetch((const char *)tile + row * stride, _MM_HINT_T0);
}

/* Tile by tile: all that a step fetches at once would stand in the way of what it loads. */
#define LOAD_INPUTS(tile, inputs, stride)                                                                              \
    do {                                                                                                               \
        _tile_loadd(tile, inputs, stride);                                                                             \
        fetch_tile((inputs) + AHEAD * AMX_INPUTS, stride);                                                             \
    } while (0)
#define LOAD_WEIGHTS(tile, weights)                                                                                    \
    do {                                                                                                               \
        _tile_loadd(tile, weights, TILE_STRIDE);                                                                       \
        fetch_tile((weights) + 4 * AHEAD * TILE, TILE_STRIDE);                                                         \
    } while (0)

INLINE void clear_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* Up to 16 rows with all 64 outputs. */
INLINE void multiply_few(const bfloat16 *weight, Rows inputs, float *sums) {
    const bfloat16 *end = weight + inputs.num_inputs * OUTPUTS, *upper = inputs.numbers;
    const int64_t stride = sizeof *upper * inputs.num_inputs;
    clear_sums();
    for (; weight < end; weight += 4 * TILE, upper += AMX_INPUTS) {
        LOAD_INPUTS(4, upper, stride);
        LOAD_WEIGHTS(6, weight);
        LOAD_WEIGHTS(7, weight + TILE);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        LOAD_WEIGHTS(6, weight + 2 * TILE);
        LOAD_WEIGHTS(7, weight + 3 * TILE);
        _tile_dpbf16ps(2, 4, 6);
        _tile_dpbf16ps(3, 4, 7);
    }
    _tile_stored(0, sums, SUMS_STRIDE);
    _tile_stored(1, sums + 16, SUMS_STRIDE);
    _tile_stored(2, sums + 32, SUMS_STRIDE);
    _tile_stored(3, sums + 48, SUMS_STRIDE);
}

/* More, up to 32, with 32 outputs: each tile that is read serves twice. */
INLINE void multiply_more(const bfloat16 *weight, Rows inputs, float *sums) {
    const bfloat16 *end = weight + inputs.num_inputs * OUTPUTS;
    const bfloat16 *upper = inputs.numbers, *lower = upper + AMX_ROWS * inputs.num_inputs;
    const int64_t stride = sizeof *upper * inputs.num_inputs;
    clear_sums();
    for (; weight < end; weight += 4 * TILE, upper += AMX_INPUTS, lower += AMX_INPUTS) {
        LOAD_INPUTS(4, upper, stride);
        LOAD_WEIGHTS(6, weight);
        LOAD_WEIGHTS(7, weight + TILE);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        LOAD_INPUTS(5, lower, stride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
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
            fetch_tile(weight + 4 * AHEAD * TILE, TILE_STRIDE);
            own[part] = _mm512_add_ps(own[part], multiply_tile(weight, inputs.numbers + input));
        }
    for (int part = 0; part < 4; part++)
        _mm512_storeu_ps(sums + 16 * part, own[part]);
    _mm_setcsr(modes);
}

void amx_multiply(const bfloat16 *weight, Rows inputs, int64_t num_rows, float *sums) {
    if (num_rows == 1) {
        multiply_one(weight, inputs, sums);
        return;
    }
    for (; num_rows > 0; num_rows -= ROWS_AT_ONCE) {
        if (num_rows <= AMX_ROWS) {
            shape_tiles(num_rows, num_rows);
            multiply_few(weight, inputs, sums);
        } else {
            shape_tiles(AMX_ROWS, num_rows < ROWS_AT_ONCE ? num_rows - AMX_ROWS : AMX_ROWS);
            multiply_more(weight, inputs, sums);
            multiply_more(weight + 2 * TILE, inputs, sums + OUTPUTS / 2);
        }
        inputs.numbers += ROWS_AT_ONCE * inputs.num_inputs;
        sums += ROWS_AT_ONCE * OUTPUTS;
    }
    _tile_release(); /* else every switch of threads would save them */
}
