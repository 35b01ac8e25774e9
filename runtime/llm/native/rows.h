/* What a decoder layer computes between its products, row by row, with the roundings of `patches/operations.py`. */
#ifndef HEARTH_ROWS_H
#define HEARTH_ROWS_H

#include "vectors.h"

/* The learnt part of an RMS norm. */
typedef struct {
    const bfloat16 *weight; /* NULL: there is no norm */
    float epsilon;
    int32_t is_shifted; /* 1 + weight is what counts, and the rounding comes after the product */
} Scale;

typedef struct {
    const bfloat16 *cosine, *signed_sine; /* [tokens][head size]; the sine of the first half is negative */
} Rotation;

/* `total` becomes itself and `addend`, which may be NULL; `normed` what the norm makes of that. */
INLINE void add_norm_row(bfloat16 *total, const bfloat16 *addend, bfloat16 *normed, int64_t size, const Scale *scale) {
    __m512 squares = _mm512_setzero_ps();
    for (int64_t column = 0; column < size; column += LANES) {
        const __mmask16 lanes = first_lanes(size - column);
        __m512 own = load(total + column, lanes);
        if (addend) {
            own = rounded(_mm512_add_ps(own, load(addend + column, lanes)));
            store(total + column, own, lanes);
        }
        squares = _mm512_fmadd_ps(own, own, squares);
    }
    const float mean = _mm512_reduce_add_ps(squares) / (float)size;
    const __m512 factor = _mm512_set1_ps(1.0f / __builtin_sqrtf(mean + scale->epsilon));
    for (int64_t column = 0; column < size; column += LANES) {
        const __mmask16 lanes = first_lanes(size - column);
        __m512 own = _mm512_mul_ps(load(total + column, lanes), factor);
        __m512 weight = load(scale->weight + column, lanes);
        if (scale->is_shifted)
            weight = _mm512_add_ps(weight, _mm512_set1_ps(1.0f));
        else
            own = rounded(own);
        store(normed + column, _mm512_mul_ps(own, weight), lanes);
    }
}

/* silu(gate), rounded, times up. */
INLINE __m512 gated(__m512 gate, __m512 up) {
    const __m512 shrunk = exp2_of(_mm512_mul_ps(gate, _mm512_set1_ps(-LOG2_E)));
    return _mm512_mul_ps(rounded(_mm512_div_ps(gate, _mm512_add_ps(shrunk, _mm512_set1_ps(1.0f)))), up);
}

/* Normed where the scale has a weight, and turned; `target` may be the head itself, which is overwritten. */
INLINE void turn_head(
    bfloat16 *head, bfloat16 *target, int64_t size, const Scale *scale, const Rotation *rotation, int64_t token)
{
    const int64_t half = size / 2;
    const bfloat16 *cosine = rotation->cosine + token * size, *signed_sine = rotation->signed_sine + token * size;
    if (scale->weight)
        add_norm_row(head, NULL, head, size, scale);
    for (int64_t column = 0; column < half; column += LANES) {
        const __mmask16 lanes = first_lanes(half - column);
        const __m512 low = load(head + column, lanes), high = load(head + half + column, lanes);
        const __m512 of_low = rounded(_mm512_mul_ps(low, load(cosine + column, lanes)));
        const __m512 of_high = rounded(_mm512_mul_ps(high, load(cosine + half + column, lanes)));
        const __m512 to_low = rounded(_mm512_mul_ps(high, load(signed_sine + column, lanes)));
        const __m512 to_high = rounded(_mm512_mul_ps(low, load(signed_sine + half + column, lanes)));
        store(target + column, _mm512_add_ps(of_low, to_low), lanes);
        store(target + half + column, _mm512_add_ps(of_high, to_high), lanes);
    }
}

#endif
