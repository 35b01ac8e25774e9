#include "products.h"

/* `rows` [num_outputs][num_inputs] as a Linear has them. */
void pack_weight(const bfloat16 *rows, int64_t num_outputs, int64_t num_inputs, bfloat16 *packed) {
    const int64_t num_pairs = num_inputs / 2;
    #pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < (num_outputs + BLOCK - 1) / BLOCK * BLOCK; first += LANES)
        for (int64_t pair = 0; pair < num_pairs; pair += LANES) {
            const __mmask16 lanes = first_lanes(num_pairs - pair);
            bfloat16 *target = packed + first / BLOCK * BLOCK * num_inputs + (pair * BLOCK + first % BLOCK) * 2;
            __m512i tile[LANES];
            for (int64_t row = 0; row < LANES; row++) {
                const int is_there = first + row < num_outputs;
                tile[row] = _mm512_maskz_loadu_epi32(is_there ? lanes : 0, rows + (first + row) * num_inputs + 2 * pair);
            }
            transpose(tile);
            for (int64_t own = 0; own < LANES && pair + own < num_pairs; own++)
                _mm512_storeu_si512(target + own * BLOCK * 2, tile[own]);
        }
}

INLINE void take_turn(const int num_rows, Rows inputs, const bfloat16 *weight, Sums sums, int64_t first) {
    __m512 own[ROWS_AT_ONCE][PARTS];
    inputs.numbers += first * inputs.stride;
    multiply(num_rows, inputs, weight, own);
    for (int row = 0; row < num_rows; row++)
        for (int part = 0; part < PARTS; part++)
            _mm512_storeu_ps(sums[first + row] + part * LANES, own[row][part]);
}

void sum_block(const Linear *linear, int64_t block, const bfloat16 *inputs, Sums sums, int64_t num_rows) {
    const bfloat16 *weight = linear->weight + block * linear->num_inputs * BLOCK;
    const Rows rows = {inputs, linear->num_inputs, linear->num_inputs / 2};
#define TURN(count, first) take_turn(count, rows, weight, sums, first)
    FOR_TURNS(num_rows, TURN)
#undef TURN
}

void multiply_task(const Linear *linear, int64_t task, const bfloat16 *inputs, bfloat16 *outputs, int64_t num_rows) {
    const int64_t block = task / count_chunks(num_rows), chunk = task % count_chunks(num_rows);
    const int64_t num_own = rows_of_chunk(num_rows, chunk);
    inputs += chunk * ROWS_MAX * linear->num_inputs;
    outputs += chunk * ROWS_MAX * linear->num_outputs;
    Sums sums;
    sum_block(linear, block, inputs, sums, num_own);
    for (int part = 0; part < PARTS; part++) {
        const int64_t column = block * BLOCK + part * LANES;
        const __mmask16 lanes = first_lanes(linear->num_outputs - column);
        const __m512 bias = linear->bias ? load(linear->bias + column, lanes) : _mm512_setzero_ps();
        for (int64_t row = 0; row < num_own; row++) {
            const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(sums[row] + part * LANES), bias);
            store(outputs + row * linear->num_outputs + column, sum, lanes);
        }
    }
}

/* `inputs` [num_rows, num_inputs], `outputs` [num_rows, num_outputs]. */
void multiply_rows(const Linear *linear, const bfloat16 *inputs, bfloat16 *outputs, int64_t num_rows) {
    #pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < count_tasks(linear, num_rows); task++)
        multiply_task(linear, task, inputs, outputs, num_rows);
}
