/* Where the threads of an OpenMP team meet.
 *
 * OpenMP's own barrier either sleeps, and waking takes as long as a small part of a layer, or spins, and takes the core
 * of the thread that it waits for when others want it, too. This one spins for a moment, and then offers its core again
 * and again to whoever has something to do.
 */
#ifndef HEARTH_BARRIER_H
#define HEARTH_BARRIER_H

#include <immintrin.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>

#define SPINS 200 /* some microseconds */

/* All zero at first. */
typedef struct {
    atomic_int num_there, round;
} Barrier;

static inline void meet(Barrier *barrier) {
    const int round = atomic_load(&barrier->round);
    if (atomic_fetch_add(&barrier->num_there, 1) == omp_get_num_threads() - 1) {
        atomic_store(&barrier->num_there, 0);
        atomic_fetch_add(&barrier->round, 1);
        return;
    }
    for (int turn = 0; atomic_load(&barrier->round) == round; turn++)
        if (turn < SPINS)
            _mm_pause();
        else
            sched_yield();
}

#endif
