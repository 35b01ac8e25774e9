/* Products of rows with a weight that is packed in blocks of 64 outputs, neighbouring inputs side by side.
 *
 * With few rows a product is as fast as the weight is read from memory, with more as fast as the processor multiplies.
 * So a block is read once and the rows take turns on it, some in the registers at a time, while it is in the cache.
 * Bringing nearer what vectors need next is left to the hardware, since they do not wait for it: all of ours stood in
 * its way. The sum of a row depends on that row alone. A task is one block for some of the rows. With AMX blocks lie
 * otherwise, and `amx.h` multiplies.
 */
#ifndef HEARTH_PRODUCTS_H
#define HEARTH_PRODUCTS_H

#include "amx.h"

#define BLOCK 64
#define PARTS (BLOCK / LANES)
#define ROWS_MAX 64 /* of a task */

typedef struct {
    const bfloat16 *weight; /* [num_outputs / 64][num_inputs / 2][64][2], outputs padded to 64; inputs are even */
    const bfloat16 *bias;   /* [num_outputs] or NULL */
    int64_t num_inputs, num_outputs;
    int64_t is_for_amx; /* a block's weights lie as `amx.h` says; inputs are a multiple of 32 */
} Linear;

typedef float Sums[BLOCK]; /* of a row */

/* Where a packed weight has 16 outputs of a pair of inputs; the 15 pairs behind it follow at `pair_stride`. */
INLINE bfloat16 *find_packed(bfloat16 *packed, int64_t num_inputs, int64_t output, int64_t input, int is_for_amx) {
    packed += output / BLOCK * BLOCK * num_inputs;
    output %= BLOCK;
    if (is_for_amx)
        return packed + input / AMX_INPUTS * AMX_INPUTS * BLOCK + output * AMX_INPUTS + input % AMX_INPUTS * LANES;
    return packed + input * BLOCK + output * 2;
}

INLINE int64_t pair_stride(int is_for_amx) {
    return 2 * (is_for_amx ? LANES : BLOCK);
}

INLINE int64_t count_blocks(const Linear *linear) {
    return (linear->num_outputs + BLOCK - 1) / BLOCK;
}

/* For each block; tasks of one block follow one another. */
INLINE int64_t count_chunks(int64_t num_rows) {
    return (num_rows + ROWS_MAX - 1) / ROWS_MAX;
}

typedef struct {
    int64_t block, chunk;
    int64_t first_row, num_rows;
    int is_alone; /* the block's only chunk */
} Task;

INLINE Task find_task(int64_t index, int64_t num_rows) {
    const int64_t num_chunks = count_chunks(num_rows), chunk = index % num_chunks, first = chunk * ROWS_MAX;
    const int64_t num_own = num_rows - first < ROWS_MAX ? num_rows - first : ROWS_MAX;
    return (Task){index / num_chunks, chunk, first, num_own, num_chunks == 1};
}

/* Of `inputs` with 64 outputs whose packed weights follow one another; for `coming` see `amx.h`. */
void sum_rows(
    const bfloat16 *weight, Rows inputs, Sums *sums, int64_t num_rows, int is_for_amx, const bfloat16 *coming);

/* Of the task's rows with the outputs of a block, without the bias.
 *
 * While many rows are multiplied memory has nothing to do, so each chunk brings a part of the next block nearer; two
 * chunks that follow one another the same, for as a rule the second is another thread's. */
INLINE void sum_block(const Linear *linear, int64_t block, const Task *task, Rows inputs, Sums *sums) {
    const int64_t size = linear->num_inputs * BLOCK;
    const int64_t part = task->chunk / 2 % AMX_BRINGING * size / AMX_BRINGING;
    const bfloat16 *weight = linear->weight + block * size;
    const bfloat16 *coming = task->is_alone ? weight : weight + size + part;
    inputs.numbers += task->first_row * linear->num_inputs;
    sum_rows(weight, inputs, sums, task->num_rows, linear->is_for_amx, coming);
}

INLINE int64_t count_tasks(const Linear *linear, int64_t num_rows) {
    return count_blocks(linear) * count_chunks(num_rows);
}

/* Of `outputs` [num_rows, num_outputs]. */
void multiply_task(const Linear *linear, int64_t index, Rows inputs, bfloat16 *outputs, int64_t num_rows);

#endif
