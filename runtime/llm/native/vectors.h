/* 16 numbers at a time: bfloat16 in memory, float32 in registers. Compiled for processors with AVX-512 BF16. */
#ifndef HEARTH_VECTORS_H
#define HEARTH_VECTORS_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

typedef uint16_t bfloat16;
#define LANES 16
#define INLINE static inline __attribute__((always_inline))

/* The first `count` lanes; all of them where it is more. */
INLINE __mmask16 first_lanes(int64_t count) {
    return count >= LANES ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

INLINE __m512 widened(__m256i numbers) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(numbers), 16));
}

INLINE __m512 load(const bfloat16 *numbers, __mmask16 lanes) {
    return widened(_mm256_maskz_loadu_epi16(lanes, numbers));
}

INLINE void store(bfloat16 *numbers, __m512 wide, __mmask16 lanes) {
    _mm256_mask_storeu_epi16(numbers, lanes, (__m256i)_mm512_cvtneps_pbh(wide));
}

/* As it is after it was stored. */
INLINE __m512 rounded(__m512 wide) {
    return widened((__m256i)_mm512_cvtneps_pbh(wide));
}

/* 2^x, to a relative 2e-7; 0 far below. The polynomial is the Taylor series of 2^f, |f| <= 1/2. */
INLINE __m512 exp2_of(__m512 x) {
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(x, whole);
    __m512 sum = _mm512_set1_ps(1.5403530e-4f);
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(1.3333558e-3f));
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(9.6181291e-3f));
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(5.5504109e-2f));
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(2.4022651e-1f));
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(6.9314718e-1f));
    sum = _mm512_fmadd_ps(sum, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(sum, whole);
}

/* Rows of 32-bit pairs become columns. */
INLINE void transpose(__m512i rows[LANES]) {
    __m512i mixed[LANES];
    for (int i = 0; i < LANES; i += 2) {
        mixed[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        mixed[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(mixed[i], mixed[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(mixed[i], mixed[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(mixed[i + 1], mixed[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(mixed[i + 1], mixed[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        mixed[i] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88);
        mixed[i + 4] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xdd);
        mixed[i + 8] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88);
        mixed[i + 12] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm512_shuffle_i32x4(mixed[i], mixed[i + 8], 0x88);
        rows[i + 8] = _mm512_shuffle_i32x4(mixed[i], mixed[i + 8], 0xdd);
        rows[i + 4] = _mm512_shuffle_i32x4(mixed[i + 4], mixed[i + 12], 0x88);
        rows[i + 12] = _mm512_shuffle_i32x4(mixed[i + 4], mixed[i + 12], 0xdd);
    }
}

#define LOG2_E 1.44269504f

#endif
