/* Attention over paged keys and values whose scores never leave the cache (Dao et al., FlashAttention, 2022).
 *
 * A tile is some neighbouring tokens of one sequence with all the query heads that share a KV head. It goes through the
 * keys 64 at a time: they are turned into the layout of a packed weight, so that scores, and what the values add, are
 * products like any other. Sums and softmax are in float32, the weights of values are rounded to bfloat16.
 */
#include "attention.h"
#include "products.h"

#define KEYS BLOCK
#define TILE_ROWS 64 /* query heads that share a KV head are no more; `library.py` knows it, too */
#define HEAD_SIZE_MAX 256
#define CACHE_LINE 64
#define FAR_BELOW -1e30f

typedef struct {
    bfloat16 queries[TILE_ROWS * HEAD_SIZE_MAX] __attribute__((aligned(64)));
    bfloat16 keys[HEAD_SIZE_MAX * KEYS];   /* a packed weight with an output for each key */
    bfloat16 values[KEYS * HEAD_SIZE_MAX]; /* and one with an input for each */
    float scores[TILE_ROWS][KEYS];
    bfloat16 weights[TILE_ROWS][KEYS];
    float added[TILE_ROWS][BLOCK];
    float sums[TILE_ROWS][HEAD_SIZE_MAX];
    float maxima[TILE_ROWS], totals[TILE_ROWS], shrinkage[TILE_ROWS];
} Tile;

/* Where in a sequence the tile's tokens are, and which keys they see. */
typedef struct {
    int64_t first, num_tokens, sharing, window;
} Place;

/* Keys that any of its tokens sees. */
typedef struct {
    int64_t first, stop;
} Seen;

INLINE int64_t tile_tokens(const Heads *heads) {
    return TILE_ROWS / (heads->num_heads / heads->num_kv_heads);
}

INLINE int64_t count_tiles(const Span *span, int64_t num_tokens) {
    return (span->num_tokens + num_tokens - 1) / num_tokens;
}

int64_t count_attention_tasks(const Batch *batch, const Heads *heads) {
    int64_t total = 0;
    for (int64_t index = 0; index < batch->num_spans; index++)
        total += count_tiles(batch->spans + index, tile_tokens(heads));
    return total * heads->num_kv_heads;
}

INLINE void pack_keys(Tile *tile, const bfloat16 *const places[KEYS], int64_t size, int is_for_amx) {
    const int64_t stride = pair_stride(is_for_amx);
    for (int64_t pair = 0; pair < size / 2; pair += LANES) {
        const __mmask16 lanes = first_lanes(size / 2 - pair);
        for (int first = 0; first < KEYS; first += LANES) {
            __m512i rows[LANES];
            for (int key = 0; key < LANES; key++) {
                const bfloat16 *place = places[first + key];
                rows[key] = place ? _mm512_maskz_loadu_epi32(lanes, place + 2 * pair) : _mm512_setzero_si512();
            }
            transpose(rows);
            bfloat16 *target = find_packed(tile->keys, size, first, 2 * pair, is_for_amx);
            for (int64_t own = 0; own < LANES && pair + own < size / 2; own++)
                _mm512_storeu_si512(target + own * stride, rows[own]);
        }
    }
}

/* Neighbouring keys side by side, in blocks of 64 columns. */
INLINE void pack_values(Tile *tile, const bfloat16 *const places[KEYS], int64_t size, int is_for_amx) {
    for (int64_t column = 0; column < size; column += LANES) {
        const __mmask16 lanes = first_lanes(size - column);
        for (int key = 0; key < KEYS; key += 2) {
            __m512i both[2];
            for (int one = 0; one < 2; one++) {
                const bfloat16 *place = places[key + one];
                both[one] = place ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, place + size + column))
                                  : _mm512_setzero_si512();
            }
            bfloat16 *target = find_packed(tile->values, KEYS, column, key, is_for_amx);
            _mm512_storeu_si512(target, _mm512_or_si512(both[0], _mm512_slli_epi32(both[1], 16)));
        }
    }
}

/* tanh x = 1 - 2 / (e^2x + 1) */
INLINE __m512 capped(__m512 scores, float cap) {
    const __m512 power = exp2_of(_mm512_mul_ps(scores, _mm512_set1_ps(2 * LOG2_E / cap)));
    const __m512 one = _mm512_set1_ps(1);
    const __m512 rest = _mm512_div_ps(_mm512_set1_ps(2), _mm512_add_ps(power, one));
    return _mm512_mul_ps(_mm512_sub_ps(one, rest), _mm512_set1_ps(cap));
}

/* Scores of one row, times log2 e, become weights; `is_seen` has a bit for each key. */
INLINE void weigh(Tile *tile, int64_t row, uint64_t is_seen, const Heads *heads) {
    __m512 scores[PARTS];
    __m512 highest = _mm512_set1_ps(FAR_BELOW);
    for (int part = 0; part < PARTS; part++) {
        scores[part] = _mm512_loadu_ps(tile->scores[row] + part * LANES);
        scores[part] = _mm512_mul_ps(scores[part], _mm512_set1_ps(heads->scaling * LOG2_E));
        if (heads->softcap)
            scores[part] = capped(scores[part], heads->softcap * LOG2_E);
        highest = _mm512_mask_max_ps(highest, (__mmask16)(is_seen >> part * LANES), highest, scores[part]);
    }
    const float before = tile->maxima[row];
    const float found = _mm512_reduce_max_ps(highest);
    const float maximum = found > before ? found : before;
    __m512 total = _mm512_setzero_ps();
    for (int part = 0; part < PARTS; part++) {
        const __m512 weights = _mm512_maskz_mov_ps(
            (__mmask16)(is_seen >> part * LANES), exp2_of(_mm512_sub_ps(scores[part], _mm512_set1_ps(maximum))));
        total = _mm512_add_ps(total, weights);
        store(tile->weights[row] + part * LANES, weights, 0xffff);
    }
    const float shrinkage = _mm512_cvtss_f32(exp2_of(_mm512_set1_ps(before - maximum)));
    tile->maxima[row] = maximum;
    tile->shrinkage[row] = shrinkage;
    tile->totals[row] = tile->totals[row] * shrinkage + _mm512_reduce_add_ps(total);
}

INLINE void add_values(Tile *tile, int64_t num_rows, const Heads *heads) {
    for (int64_t column = 0; column < heads->size; column += BLOCK) {
        const Rows weights = {tile->weights[0], KEYS};
        sum_rows(tile->values + column * KEYS, weights, tile->added, num_rows, heads->is_for_amx, tile->values);
        for (int64_t row = 0; row < num_rows; row++)
            for (int part = 0; part < PARTS; part++) {
                float *own = tile->sums[row] + column + part * LANES;
                const __m512 shrinkage = _mm512_set1_ps(tile->shrinkage[row]);
                const __m512 added = _mm512_loadu_ps(tile->added[row] + part * LANES);
                _mm512_storeu_ps(own, _mm512_fmadd_ps(_mm512_loadu_ps(own), shrinkage, added));
            }
    }
}

/* A bit for each key from `first_key`. */
INLINE uint64_t seen_keys(const Place *place, int64_t row, int64_t first_key) {
    const int64_t position = place->first + row / place->sharing;
    const int64_t stop = position + 1 - first_key;
    uint64_t is_seen = stop >= KEYS ? ~0ull : stop <= 0 ? 0 : (1ull << stop) - 1;
    const int64_t hidden = place->window ? stop - place->window : 0; /* keys that lie too far back */
    if (hidden > 0)
        is_seen &= hidden >= KEYS ? 0 : ~0ull << hidden;
    return is_seen;
}

INLINE void attend_keys(
    Tile *tile, const bfloat16 *const places[KEYS], const Place *place, int64_t first_key, const Heads *heads)
{
    const int64_t num_rows = place->num_tokens * place->sharing;
    pack_keys(tile, places, heads->size, heads->is_for_amx);
    pack_values(tile, places, heads->size, heads->is_for_amx);
    const Rows queries = {tile->queries, heads->size};
    sum_rows(tile->keys, queries, tile->scores, num_rows, heads->is_for_amx, tile->keys);
    for (int64_t row = 0; row < num_rows; row++)
        weigh(tile, row, seen_keys(place, row, first_key), heads);
    add_values(tile, num_rows, heads);
}

/* Where 64 keys lie; NULL for those that no token of the tile sees, which may be another's by now. */
INLINE void find_keys(
    const Batch *batch, const Span *span, const Heads *heads, const Seen *seen, int64_t first_key,
    const bfloat16 *cache, const bfloat16 *places[KEYS])
{
    const int64_t row_size = heads->num_kv_heads * 2 * heads->size;
    const int32_t *block = batch->blocks + span->first_block + first_key / batch->block_size;
    int64_t offset = first_key % batch->block_size; /* divisions take their time */
    for (int64_t key = 0; key < KEYS; key++, offset++) {
        if (offset == batch->block_size) {
            offset = 0;
            block++;
        }
        const int64_t position = first_key + key;
        const int is_seen = position >= seen->first && position < seen->stop;
        places[key] = is_seen ? cache + (*block * batch->block_size + offset) * row_size : NULL;
        if (is_seen) /* brings all of them nearer at once, which packing one behind another does not */
            for (int64_t number = 0; number < 2 * heads->size; number += CACHE_LINE / (int64_t)sizeof *cache)
                _mm_prefetch((const char *)(places[key] + number), _MM_HINT_T0);
    }
}

/* The span and the place of a task in it. */
INLINE const Span *find_span(const Batch *batch, const Heads *heads, int64_t task, Place *place) {
    const int64_t at_once = tile_tokens(heads);
    int64_t tile = task / heads->num_kv_heads;
    const Span *span = batch->spans;
    for (; tile >= count_tiles(span, at_once); span++)
        tile -= count_tiles(span, at_once);
    const int64_t left = span->num_tokens - tile * at_once;
    place->first = span->num_computed + tile * at_once;
    place->num_tokens = left < at_once ? left : at_once;
    place->sharing = heads->num_heads / heads->num_kv_heads;
    place->window = heads->window;
    return span;
}

/* `sinks` are of the heads that share the KV head; NULL: none. */
INLINE void begin_tile(Tile *tile, const Place *place, int64_t size, Tokens queries, const float *sinks) {
    for (int64_t row = 0; row < place->num_tokens * place->sharing; row++) {
        const bfloat16 *own = queries.numbers + row / place->sharing * queries.stride + row % place->sharing * size;
        __builtin_memcpy(tile->queries + row * size, own, size * sizeof *own);
        for (int64_t column = 0; column < size; column += BLOCK)
            for (int part = 0; part < PARTS; part++)
                _mm512_storeu_ps(tile->sums[row] + column + part * LANES, _mm512_setzero_ps());
        tile->maxima[row] = sinks ? sinks[row % place->sharing] * LOG2_E : FAR_BELOW;
        tile->totals[row] = sinks ? 1 : 0;
    }
}

INLINE void end_tile(const Tile *tile, const Place *place, int64_t size, bfloat16 *outputs, int64_t stride) {
    for (int64_t row = 0; row < place->num_tokens * place->sharing; row++) {
        bfloat16 *own = outputs + row / place->sharing * stride + row % place->sharing * size;
        const __m512 total = _mm512_set1_ps(tile->totals[row]);
        for (int64_t column = 0; column < size; column += LANES) {
            const __m512 sum = _mm512_loadu_ps(tile->sums[row] + column);
            store(own + column, _mm512_div_ps(sum, total), first_lanes(size - column));
        }
    }
}

void attend_task(
    const Batch *batch, const Heads *heads, int64_t task, Tokens queries, const bfloat16 *cache, bfloat16 *outputs)
{
    Tile tile;
    Place place;
    const Span *span = find_span(batch, heads, task, &place);
    const int64_t kv_head = task % heads->num_kv_heads, first_column = kv_head * place.sharing * heads->size;
    const int64_t first_token = span->start + place.first - span->num_computed, stride = heads->num_heads * heads->size;
    queries.numbers += first_token * queries.stride + first_column;
    begin_tile(&tile, &place, heads->size, queries, heads->sinks ? heads->sinks + kv_head * place.sharing : NULL);
    const Seen seen = {
        .first = place.window && place.first >= place.window ? place.first - place.window + 1 : 0,
        .stop = place.first + place.num_tokens,
    };
    for (int64_t first_key = seen.first / KEYS * KEYS; first_key < seen.stop; first_key += KEYS) {
        const bfloat16 *places[KEYS];
        find_keys(batch, span, heads, &seen, first_key, cache + kv_head * 2 * heads->size, places);
        attend_keys(&tile, places, &place, first_key, heads);
    }
    end_tile(&tile, &place, heads->size, outputs + first_token * stride + first_column, stride);
}
