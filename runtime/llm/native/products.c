#include "products.h"

#define ROWS_AT_ONCE 6 /* times PARTS is 24 of 32 registers */

/* `rows` [num_outputs][num_inputs] become the weight of `linear`. */
void pack_weight(const Linear *linear, const bfloat16 *rows, bfloat16 *packed) {
    const int64_t num_outputs = linear->num_outputs, num_inputs = linear->num_inputs, num_pairs = num_inputs / 2;
    #pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < (num_outputs + BLOCK - 1) / BLOCK * BLOCK; first += LANES)
        for (int64_t pair = 0; pair < num_pairs; pair += LANES) {
            const __mmask16 lanes = first_lanes(num_pairs - pair);
            bfloat16 *target = find_packed(packed, num_inputs, first, 2 * pair, linear->is_for_amx);
            __m512i tile[LANES];
            for (int64_t row = 0; row < LANES; row++) {
                const int is_there = first + row < num_outputs;
                tile[row] = _mm512_maskz_loadu_epi32(is_there ? lanes : 0, rows + (first + row) * num_inputs + 2 * pair);
            }
            transpose(tile);
            for (int64_t own = 0; own < LANES && pair + own < num_pairs; own++)
                _mm512_storeu_si512(target + own * pair_stride(linear->is_for_amx), tile[own]);
        }
}

/* num_rows is known where this is called, so that the sums stay in registers. */
INLINE void multiply(const int num_rows, Rows inputs, const bfloat16 *weight, __m512 sums[][PARTS]) {
    for (int row = 0; row < num_rows; row++)
        for (int part = 0; part < PARTS; part++)
            sums[row][part] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < inputs.num_inputs / 2; pair++, weight += 2 * BLOCK) {
        __m512bh columns[PARTS];
        for (int part = 0; part < PARTS; part++)
            columns[part] = (__m512bh)_mm512_loadu_si512(weight + 2 * LANES * part);
        for (int row = 0; row < num_rows; row++) {
            int32_t both;
            __builtin_memcpy(&both, inputs.numbers + row * inputs.num_inputs + 2 * pair, sizeof both);
            const __m512bh factor = (__m512bh)_mm512_set1_epi32(both);
            for (int part = 0; part < PARTS; part++)
                sums[row][part] = _mm512_dpbf16_ps(sums[row][part], columns[part], factor);
        }
    }
}

/* Equally many in each turn, but for the last. */
INLINE int64_t rows_of_turn(int64_t num_rows) {
    const int64_t num_turns = (num_rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
    return (num_rows + num_turns - 1) / num_turns;
}

INLINE void take_turn(const int num_rows, Rows inputs, const bfloat16 *weight, Sums *sums, int64_t first) {
    __m512 own[ROWS_AT_ONCE][PARTS];
    inputs.numbers += first * inputs.num_inputs;
    multiply(num_rows, inputs, weight, own);
    for (int row = 0; row < num_rows; row++)
        for (int part = 0; part < PARTS; part++)
            _mm512_storeu_ps(sums[first + row] + part * LANES, own[row][part]);
}

void sum_rows(
    const bfloat16 *weight, Rows inputs, Sums *sums, int64_t num_rows, int is_for_amx, const bfloat16 *coming)
{
    if (is_for_amx) {
        amx_multiply(weight, inputs, num_rows, sums[0], coming);
        return;
    }
    const int64_t at_once = rows_of_turn(num_rows);
    for (int64_t first = 0; first < num_rows; first += at_once)
        switch (num_rows - first < at_once ? num_rows - first : at_once) {
        case 1: take_turn(1, inputs, weight, sums, first); break;
        case 2: take_turn(2, inputs, weight, sums, first); break;
        case 3: take_turn(3, inputs, weight, sums, first); break;
        case 4: take_turn(4, inputs, weight, sums, first); break;
        case 5: take_turn(5, inputs, weight, sums, first); break;
        case 6: take_turn(6, inputs, weight, sums, first); break;
        }
}

void multiply_task(const Linear *linear, int64_t index, Rows inputs, bfloat16 *outputs, int64_t num_rows) {
    const Task task = find_task(index, num_rows);
    outputs += task.first_row * linear->num_outputs;
    Sums sums[ROWS_MAX];
    sum_block(linear, task.block, &task, inputs, sums);
    for (int part = 0; part < PARTS; part++) {
        const int64_t column = task.block * BLOCK + part * LANES;
        const __mmask16 lanes = first_lanes(linear->num_outputs - column);
        const __m512 bias = linear->bias ? load(linear->bias + column, lanes) : _mm512_setzero_ps();
        for (int64_t row = 0; row < task.num_rows; row++) {
            const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(sums[row] + part * LANES), bias);
            store(outputs + row * linear->num_outputs + column, sum, lanes);
        }
    }
}

/* `inputs` [num_rows, num_inputs], `outputs` [num_rows, num_outputs]. */
void multiply_rows(const Linear *linear, const bfloat16 *inputs, bfloat16 *outputs, int64_t num_rows) {
    const Rows rows = {inputs, linear->num_inputs};
    #pragma omp parallel for schedule(dynamic)
    for (int64_t task = 0; task < count_tasks(linear, num_rows); task++)
        multiply_task(linear, task, rows, outputs, num_rows);
}
