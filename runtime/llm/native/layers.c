/* Decoder layers of the Llama family in one call: its threads meet between the parts and nowhere else. */
#include "attention.h"
#include "products.h"
#include "rows.h"
#include "team.h"

typedef struct {
    Scale attention_norm, query_norm, key_norm, mlp_norm;
    Linear query_key_value, attention_output, gate_up, mlp_output; /* gate_up's outputs are whole blocks of each */
    Heads heads;
} Layer;

/* Behind the last layer nobody looks at any other row; of the others only keys and values are wanted of it. */
typedef struct {
    const Span *spans;   /* the batch's, cut down to what holds them all */
    const int64_t *rows; /* ascending */
    int64_t num_spans, num_rows;
} Asked;

/* Memory for what comes between the parts, [tokens][…]. */
typedef struct {
    bfloat16 *normed, *projected, *attended, *gated;
} Memory;

/* Queries are turned in place, the key on its way into the cache. */
INLINE void place_token(
    const Layer *layer, const Batch *batch, const Rotation *rotation, int64_t token, bfloat16 *query, bfloat16 *cache)
{
    const Heads *heads = &layer->heads;
    const int64_t size = heads->size;
    bfloat16 *key = query + heads->num_heads * size, *value = key + heads->num_kv_heads * size;
    for (; query < key; query += size)
        turn_head(query, query, size, &layer->query_norm, rotation, token);
    bfloat16 *place = cache + batch->slots[token] * heads->num_kv_heads * 2 * size;
    for (int64_t head = 0; head < heads->num_kv_heads; head++, key += size, value += size, place += 2 * size) {
        turn_head(key, place, size, &layer->key_norm, rotation, token);
        __builtin_memcpy(place + size, value, size * sizeof *value);
    }
}

INLINE __m512 with_bias(const float *sums, const bfloat16 *bias) {
    const __m512 sum = _mm512_loadu_ps(sums);
    return rounded(bias ? _mm512_add_ps(sum, load(bias, 0xffff)) : sum);
}

/* A task of gate's columns, with the same of up's. */
INLINE void gate_task(const Linear *linear, int64_t index, Rows inputs, bfloat16 *outputs, int64_t num_rows) {
    const Task task = find_task(index, num_rows);
    const int64_t width = linear->num_outputs / 2;
    const bfloat16 *bias = linear->bias ? linear->bias + task.block * BLOCK : NULL;
    outputs += task.first_row * width + task.block * BLOCK;
    Sums gates[ROWS_MAX], ups[ROWS_MAX];
    sum_block(linear, task.block, &task, inputs, gates);
    sum_block(linear, task.block + width / BLOCK, &task, inputs, ups);
    for (int64_t row = 0; row < task.num_rows; row++)
        for (int64_t column = 0; column < BLOCK; column += LANES) {
            const __m512 gate = with_bias(gates[row] + column, bias ? bias + column : NULL);
            const __m512 up = with_bias(ups[row] + column, bias ? bias + width + column : NULL);
            store(outputs + row * width + column, gated(gate, up), 0xffff);
        }
}

/* Rows that are asked for to the front, one behind another, or back to where they were. */
INLINE void gather_rows(const Asked *asked, bfloat16 *rows, int64_t size) {
    for (int64_t row = 0; row < asked->num_rows; row++)
        if (asked->rows[row] > row)
            __builtin_memcpy(rows + row * size, rows + asked->rows[row] * size, size * sizeof *rows);
}

INLINE void scatter_rows(const Asked *asked, bfloat16 *rows, int64_t size) {
    for (int64_t row = asked->num_rows - 1; row >= 0; row--)
        if (asked->rows[row] > row)
            __builtin_memcpy(rows + asked->rows[row] * size, rows + row * size, size * sizeof *rows);
}

/* What goes from layer to layer, [tokens][hidden size], is still to be added. */
typedef struct {
    bfloat16 *hidden, *addend;
} Stream;

/* For every thread of a team, like all that follow. An addend comes in but for the first layer. */
static void project(
    const Layer *layer, const Batch *batch, const Rotation *rotation, const Memory *memory, bfloat16 *cache,
    Stream stream, int has_addend, Team *team)
{
    const int64_t num_tokens = batch->num_tokens, size = layer->query_key_value.num_inputs;
    const int64_t stride = layer->query_key_value.num_outputs;
    const Rows normed = {memory->normed, size};
    #pragma omp for schedule(static) nowait
    for (int64_t row = 0; row < num_tokens; row++)
        add_norm_row(
            stream.hidden + row * size, has_addend ? stream.addend + row * size : NULL, memory->normed + row * size,
            size, &layer->attention_norm);
    meet(team);
    FOR_OWN_TASKS(team, task, count_tasks(&layer->query_key_value, num_tokens))
        multiply_task(&layer->query_key_value, task, normed, memory->projected, num_tokens);
    meet(team);
    #pragma omp for schedule(static) nowait
    for (int64_t token = 0; token < num_tokens; token++)
        place_token(layer, batch, rotation, token, memory->projected + token * stride, cache);
    meet(team);
}

static void attend_layer(
    const Layer *layer, const Batch *batch, const Memory *memory, const bfloat16 *cache, Team *team)
{
    const Tokens queries = {memory->projected, layer->query_key_value.num_outputs};
    const int64_t num_tasks = count_attention_tasks(batch, &layer->heads);
    FOR_OWN_TASKS(team, task, num_tasks) /* the last of a long chunk see most */
        attend_task(batch, &layer->heads, num_tasks - 1 - task, queries, cache, memory->attended);
    meet(team);
}

/* From what attention gave to what the layer gives. */
static void compute_rest(const Layer *layer, int64_t num_tokens, const Memory *memory, Stream stream, Team *team) {
    const int64_t size = layer->query_key_value.num_inputs;
    const Rows normed = {memory->normed, size};
    const Rows attended = {memory->attended, layer->attention_output.num_inputs};
    const Rows gated = {memory->gated, layer->mlp_output.num_inputs};
    FOR_OWN_TASKS(team, task, count_tasks(&layer->attention_output, num_tokens))
        multiply_task(&layer->attention_output, task, attended, stream.addend, num_tokens);
    meet(team);
    #pragma omp for schedule(static) nowait
    for (int64_t row = 0; row < num_tokens; row++)
        add_norm_row(
            stream.hidden + row * size, stream.addend + row * size, memory->normed + row * size, size,
            &layer->mlp_norm);
    meet(team);
    FOR_OWN_TASKS(team, task, count_tasks(&layer->gate_up, num_tokens) / 2)
        gate_task(&layer->gate_up, task, normed, memory->gated, num_tokens);
    meet(team);
    FOR_OWN_TASKS(team, task, count_tasks(&layer->mlp_output, num_tokens))
        multiply_task(&layer->mlp_output, task, gated, stream.addend, num_tokens);
    meet(team);
}

/* Behind attention, as if there were no other rows. */
static void compute_asked(
    const Layer *layer, const Batch *batch, const Asked *asked, const Memory *memory, const bfloat16 *cache,
    Stream stream, Team *team)
{
    const int64_t size = layer->query_key_value.num_inputs;
    Batch own = *batch;
    own.spans = asked->spans;
    own.num_spans = asked->num_spans;
    attend_layer(layer, &own, memory, cache, team);
    #pragma omp single nowait
    {
        gather_rows(asked, memory->attended, layer->attention_output.num_inputs);
        gather_rows(asked, stream.hidden, size);
    }
    meet(team);
    compute_rest(layer, asked->num_rows, memory, stream, team);
    #pragma omp single nowait
    {
        scatter_rows(asked, stream.hidden, size);
        scatter_rows(asked, stream.addend, size);
    }
    meet(team);
}

/* One after the other, each with its cache. `hidden` and `addend` come and go [tokens][hidden size]; without `asked`
 * every row is asked for. */
void compute_layers(
    const Layer *layers, bfloat16 *const *caches, int64_t num_layers, const Batch *batch, const Asked *asked,
    const Rotation *rotation, const Memory *memory, bfloat16 *hidden, bfloat16 *addend)
{
    const Stream stream = {hidden, addend};
    Team team = {0};
    #pragma omp parallel
    for (int64_t index = 0; index < num_layers; index++) {
        const Layer *layer = layers + index;
        project(layer, batch, rotation, memory, caches[index], stream, index > 0, &team);
        if (asked && index == num_layers - 1) {
            compute_asked(layer, batch, asked, memory, caches[index], stream, &team);
        } else {
            attend_layer(layer, batch, memory, caches[index], &team);
            compute_rest(layer, batch->num_tokens, memory, stream, &team);
        }
    }
}
