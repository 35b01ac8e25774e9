/* Products of rows with a weight that is packed in blocks of 64 outputs, neighbouring inputs side by side.
 *
 * With few rows a product is as fast as the weight is read from memory, with more as fast as the processor multiplies.
 * So a block is read once and the rows take turns on it, some in the registers at a time, while it is in the cache.
 * Bringing nearer what comes next is left to the hardware: all of ours stood in its way. The sum of a row depends on
 * that row alone. A task is one block for some of the rows.
 */
#ifndef HEARTH_PRODUCTS_H
#define HEARTH_PRODUCTS_H

#include "vectors.h"

#define BLOCK 64
#define PARTS (BLOCK / LANES)
#define ROWS_AT_ONCE 6 /* times PARTS is 24 of 32 registers */
#define ROWS_MAX 60 /* of a task; whole turns */

typedef struct {
    const bfloat16 *weight; /* [num_outputs / 64][num_inputs / 2][64][2], outputs padded to 64; inputs are even */
    const bfloat16 *bias;   /* [num_outputs] or NULL */
    int64_t num_inputs, num_outputs;
} Linear;

typedef struct {
    const bfloat16 *numbers; /* rows of `stride` numbers */
    int64_t stride, num_pairs;
} Rows;

typedef float Sums[ROWS_MAX][BLOCK];

/* num_rows is known where this is called, so that the sums stay in registers. */
INLINE void multiply(const int num_rows, Rows inputs, const bfloat16 *weight, __m512 sums[][PARTS]) {
    for (int row = 0; row < num_rows; row++)
        for (int part = 0; part < PARTS; part++)
            sums[row][part] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < inputs.num_pairs; pair++, weight += 2 * BLOCK) {
        __m512bh columns[PARTS];
        for (int part = 0; part < PARTS; part++)
            columns[part] = (__m512bh)_mm512_loadu_si512(weight + 2 * LANES * part);
        for (int row = 0; row < num_rows; row++) {
            int32_t both;
            __builtin_memcpy(&both, inputs.numbers + row * inputs.stride + 2 * pair, sizeof both);
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

/* `act(count, first)` for all rows, with a count that the compiler knows. */
#define FOR_TURNS(num_rows, act)                                                                                       \
    for (int64_t at_once_ = rows_of_turn(num_rows), first_ = 0; first_ < (num_rows); first_ += at_once_)               \
        switch ((num_rows) - first_ < at_once_ ? (num_rows) - first_ : at_once_) {                                     \
        case 1: act(1, first_); break;                                                                                 \
        case 2: act(2, first_); break;                                                                                 \
        case 3: act(3, first_); break;                                                                                 \
        case 4: act(4, first_); break;                                                                                 \
        case 5: act(5, first_); break;                                                                                 \
        case 6: act(6, first_); break;                                                                                 \
        }

INLINE int64_t count_blocks(const Linear *linear) {
    return (linear->num_outputs + BLOCK - 1) / BLOCK;
}

/* For each block; tasks of one block follow one another. */
INLINE int64_t count_chunks(int64_t num_rows) {
    return (num_rows + ROWS_MAX - 1) / ROWS_MAX;
}

INLINE int64_t rows_of_chunk(int64_t num_rows, int64_t chunk) {
    return num_rows - chunk * ROWS_MAX < ROWS_MAX ? num_rows - chunk * ROWS_MAX : ROWS_MAX;
}

/* `inputs` [num_rows, num_inputs] with one block's weights, without the bias; ROWS_MAX rows or fewer. */
void sum_block(const Linear *linear, int64_t block, const bfloat16 *inputs, Sums sums, int64_t num_rows);

INLINE int64_t count_tasks(const Linear *linear, int64_t num_rows) {
    return count_blocks(linear) * count_chunks(num_rows);
}

/* Of `outputs` [num_rows, num_outputs]. */
void multiply_task(const Linear *linear, int64_t task, const bfloat16 *inputs, bfloat16 *outputs, int64_t num_rows);

#endif
