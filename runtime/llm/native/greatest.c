/* The greatest logit of each row. */
#include "vectors.h"

INLINE int32_t find_greatest(const bfloat16 *logits, int64_t size) {
    __m512 greatest = _mm512_set1_ps(-__builtin_inff());
    __m512i own_place = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i place = _mm512_setzero_si512(); /* of the greatest of each lane, the first of them */
    for (int64_t column = 0; column < size; column += LANES) {
        const __mmask16 lanes = first_lanes(size - column);
        const __m512 own = load(logits + column, lanes);
        const __mmask16 is_greater = _mm512_mask_cmp_ps_mask(lanes, own, greatest, _CMP_GT_OQ);
        greatest = _mm512_mask_mov_ps(greatest, is_greater, own);
        place = _mm512_mask_mov_epi32(place, is_greater, own_place);
        own_place = _mm512_add_epi32(own_place, _mm512_set1_epi32(LANES));
    }
    const __m512 of_row = _mm512_set1_ps(_mm512_reduce_max_ps(greatest));
    return _mm512_mask_reduce_min_epi32(_mm512_cmp_ps_mask(greatest, of_row, _CMP_EQ_OQ), place);
}

/* `places` [num_rows]: of the first of those that are equal; 0 where no logit is greater than minus infinity. */
void find_greatest_of_rows(const bfloat16 *logits, int64_t stride, int64_t num_rows, int64_t size, int64_t *places) {
    #pragma omp parallel for schedule(static) if (num_rows > 1)
    for (int64_t row = 0; row < num_rows; row++)
        places[row] = find_greatest(logits + row * stride, size);
}
