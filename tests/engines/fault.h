/* What the sources of the engine `fault` share. fault.c says what each method does. */
#ifndef FAULT_H
#define FAULT_H

#include <cohab/engine.h>

#ifdef __cplusplus
extern "C" {
#endif

/* fault_mappings.c */
int fault_scribble(struct cohab_call *call);
int fault_scribble_random(struct cohab_call *call);

/* fault_deaths.c */
int fault_null_call(struct cohab_call *call);
int fault_wild_write(struct cohab_call *call);
int fault_wild_jump(struct cohab_call *call);
int fault_assert_fails(struct cohab_call *call);
int fault_divide_by_zero(struct cohab_call *call);
int fault_illegal_instruction(struct cohab_call *call);
int fault_bus_error(struct cohab_call *call);
int fault_quick_exit_status(struct cohab_call *call);
int fault_allocation_bomb(struct cohab_call *call);
int fault_deadlock(struct cohab_call *call);
int fault_crash_deep(struct cohab_call *call);
int fault_crash_while_writing(struct cohab_call *call);
int fault_mutate_params(struct cohab_call *call);
int fault_fork_crash(struct cohab_call *call);

/* fault_handlers.c */
int fault_install_handler(int number, const char *what); /* -1: errno says why */
int fault_own_handler(struct cohab_call *call);
int fault_recover(struct cohab_call *call);

/* fault_cpp.cpp */
int fault_throw_uncaught(struct cohab_call *call);
int fault_throw_bad_alloc(struct cohab_call *call);
int fault_allocation_throw(struct cohab_call *call);
int fault_exit_with_destructor_crash(struct cohab_call *call);

/* Where the allocation bombs stop by themselves: a limit that is missing must not take the machine down. */
#define FAULT_ALLOCATION_MAX (INT64_C(4) << 30)

#ifdef __cplusplus
}
#endif

#endif
