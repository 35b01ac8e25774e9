/* How the threads of an OpenMP team share the tasks of one part after the other.
 *
 * Whoever is free takes the next task: cores are seldom equally fast, since others use them, too. Where tasks are as
 * little as a row, each has its part of them instead.
 *
 * OpenMP's own barrier either sleeps, and waking takes as long as a small part of a layer, or spins, and takes the core
 * of the thread that it waits for when others want it, too. This one spins for a moment, and then offers its core again
 * and again to whoever has something to do.
 */
#ifndef HEARTH_TEAM_H
#define HEARTH_TEAM_H

#include <immintrin.h>
#include <omp.h>
#include <sched.h>
#include <stdatomic.h>

#define SPINS 200 /* some microseconds */

/* All zero at first. */
typedef struct {
    atomic_int num_there, round;
    atomic_int_fast64_t num_taken;
} Team;

/* A part's tasks are over when all have met. */
#define FOR_OWN_TASKS(team, task, num_tasks)                                                                           \
    for (int64_t task; (task = atomic_fetch_add(&(team)->num_taken, 1)) < (num_tasks);)

static inline void meet(Team *team) {
    const int round = atomic_load(&team->round);
    if (atomic_fetch_add(&team->num_there, 1) == omp_get_num_threads() - 1) {
        atomic_store(&team->num_there, 0);
        atomic_store(&team->num_taken, 0);
        atomic_fetch_add(&team->round, 1);
        return;
    }
    for (int turn = 0; atomic_load(&team->round) == round; turn++)
        if (turn < SPINS)
            _mm_pause();
        else
            sched_yield();
}

#endif
