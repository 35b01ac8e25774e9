/* Sums of products by AMX: 16 rows by 16 outputs by 32 inputs in one instruction, of registers called tiles.
 *
 * A weight lies as [outputs / 64][inputs / 32][4][16 pairs of inputs][16 outputs][2]: tiles whose rows lie apart are
 * read up to a quarter slower. The process must have been allowed to use tiles, for which torch asks.
 */
#ifndef HEARTH_AMX_H
#define HEARTH_AMX_H

#include "vectors.h"

#define AMX_INPUTS 32
#define AMX_ROWS 16
#define AMX_BRINGING 4 /* products of so many rows bring as many numbers nearer as one row has */

typedef struct {
    const bfloat16 *numbers; /* [rows][num_inputs] */
    int64_t num_inputs;
} Rows;

/* `sums` [num_rows][64] of 64 outputs, whose weights follow one another. Inputs are a multiple of 32.
 *
 * Meanwhile more than 16 rows bring num_rows * num_inputs / AMX_BRINGING numbers from `coming` on into the second
 * cache; nothing comes of it where those are near already, or no memory of ours. */
void amx_multiply(const bfloat16 *weight, Rows inputs, int64_t num_rows, float *sums, const bfloat16 *coming);

#endif
