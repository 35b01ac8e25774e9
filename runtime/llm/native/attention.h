#ifndef HEARTH_ATTENTION_H
#define HEARTH_ATTENTION_H

#include "vectors.h"

/* Neighbouring tokens of one sequence in a flattened batch. */
typedef struct {
    int32_t start, num_tokens; /* in the batch */
    int32_t num_computed;      /* tokens of the sequence before these */
    int32_t first_block;       /* of the sequence, in the batch's `blocks` */
} Span;

typedef struct {
    const Span *spans;
    const int32_t *blocks; /* of all sequences, one behind another: which blocks of the cache hold their keys */
    const int64_t *slots;  /* of each token, where in the cache its key and value go */
    int64_t num_spans, num_tokens, block_size;
} Batch;

typedef struct {
    int64_t num_heads, num_kv_heads, size; /* keys and values are of one size, which is even */
    int64_t window;                        /* keys that a token sees, itself included; 0: all */
    const float *sinks;                    /* of each head, a score whose value is zero; NULL: none */
    float scaling, softcap;                /* a score x counts as softcap * tanh(x / softcap); 0: as itself */
    int32_t is_for_amx;                    /* the size is a multiple of 32 */
} Heads;

/* Query heads of token t begin at numbers + t * stride. */
typedef struct {
    const bfloat16 *numbers;
    int64_t stride;
} Tokens;

/* Each can be attended to by itself: some tokens of a span, and the query heads of one KV head. */
int64_t count_attention_tasks(const Batch *batch, const Heads *heads);

/* `cache` [slots, KV heads, 2, size] holds the batch's own keys already; `outputs` [tokens, heads, size]. */
void attend_task(
    const Batch *batch, const Heads *heads, int64_t task, Tokens queries, const bfloat16 *cache, bfloat16 *outputs);

#endif
