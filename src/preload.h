/* What load() has built, in the forkserver: shared by all workers, so it is put on huge pages, which makes
 * forks of it an order of magnitude cheaper (docs/performance.md), and kept out of core dumps. */
#ifndef PRELOAD_H
#define PRELOAD_H

/* Before the forkserver's exec: asks malloc for huge pages, in the environment, unless the operator has
 * decided about them there. */
void preload_request(void);
/* Takes that request out of the environment again: engines and the programs that they start do not see it. */
void preload_forget_request(void);
/* To be called once, after load() and before the first fork. What fails costs speed and nothing else. */
void preload_settle(void);

#endif
