/* The parts of a layer one by one, for any number of rows; `patches/operations.py` says what each computes. */
#include "attention.h"
#include "rows.h"

#define PARALLEL_NUMBERS 16384 /* so many are worth the waking of other threads */

void add_norm_rows(
    bfloat16 *totals, const bfloat16 *addends, bfloat16 *normed, int64_t num_rows, int64_t size, const Scale *scale)
{
    #pragma omp parallel for schedule(static) if (num_rows * size > PARALLEL_NUMBERS)
    for (int64_t row = 0; row < num_rows; row++)
        add_norm_row(
            totals + row * size, addends ? addends + row * size : NULL, normed + row * size, size, scale);
}

/* `inputs` [num_rows, 2, size], gate and up; `outputs` [num_rows, size]. */
void gate_rows(const bfloat16 *inputs, bfloat16 *outputs, int64_t num_rows, int64_t size) {
    #pragma omp parallel for schedule(static) if (num_rows * size > PARALLEL_NUMBERS)
    for (int64_t row = 0; row < num_rows; row++)
        for (int64_t column = 0; column < size; column += LANES) {
            const __mmask16 lanes = first_lanes(size - column);
            const bfloat16 *gate = inputs + row * 2 * size + column;
            store(outputs + row * size + column, gated(load(gate, lanes), load(gate + size, lanes)), lanes);
        }
}

/* Heads of `tokens` in place: queries first, then keys, each normed where there is a scale for it. */
void rotate_rows(
    bfloat16 *tokens, int64_t stride, int64_t num_tokens, int64_t num_query_heads, int64_t num_heads, int64_t size,
    const Rotation *rotation, const Scale *query_scale, const Scale *key_scale)
{
    #pragma omp parallel for schedule(static) if (num_tokens * num_heads * size > PARALLEL_NUMBERS)
    for (int64_t token = 0; token < num_tokens; token++)
        for (int64_t head = 0; head < num_heads; head++) {
            bfloat16 *own = tokens + token * stride + head * size;
            const Scale *scale = head < num_query_heads ? query_scale : key_scale;
            turn_head(own, own, size, scale, rotation, token);
        }
}

/* Puts keys and values [tokens, KV heads, size] into the cache and attends to all that is there. */
void attend(
    const Batch *batch, const Heads *heads, Tokens queries, Tokens keys, Tokens values, bfloat16 *cache,
    bfloat16 *outputs)
{
    const int64_t num_tasks = count_attention_tasks(batch, heads), size = heads->size;
    #pragma omp parallel
    {
        #pragma omp for schedule(static)
        for (int64_t token = 0; token < batch->num_tokens; token++)
            for (int64_t head = 0; head < heads->num_kv_heads; head++) {
                bfloat16 *place = cache + (batch->slots[token] * heads->num_kv_heads + head) * 2 * size;
                __builtin_memcpy(place, keys.numbers + token * keys.stride + head * size, size * sizeof *place);
                __builtin_memcpy(
                    place + size, values.numbers + token * values.stride + head * size, size * sizeof *place);
            }
        #pragma omp for schedule(dynamic)
        for (int64_t task = num_tasks - 1; task >= 0; task--) /* the last of a long chunk see most */
            attend_task(batch, heads, task, queries, cache, outputs);
    }
}
