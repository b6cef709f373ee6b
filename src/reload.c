#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "births.h"
#include "clock.h"
#include "crashes.h"
#include "generation.h"
#include "log.h"
#include "master.h"
#include "notify.h"
#include "supervise.h"
#include "upgrade.h"

/* Births of the new generation that may fail while workers are replaced. */
#define FAILURES_MAX 3

/* --- how it ends --- */

static void tell_listener(struct master *master, const struct reload_result *result)
{
    struct reload *reload = &master->reload;
    reload_listener *listener = reload->listener;
    reload->listener = NULL;
    if (listener)
        listener(reload->context, result);
}

/* All is reset before anybody is told: whoever is told may ask for the next one. */
static void end(struct master *master, const struct reload_result *result)
{
    struct reload *reload = &master->reload;
    bool again = reload->again && master->state == MASTER_SERVING;
    reload->state = RELOAD_NONE;
    reload->candidate = reload->old = NULL;
    reload->trial = NULL;
    reload->again = false;
    notify_ready(); /* with the new engine, or as before */
    tell_listener(master, result);
    generation_sweep(master);
    if (again)
        reload_ask(master);
}

static void dismiss(struct generation *generation)
{
    generation->ended = true;
    generation_end(generation);
}

/* Workers of the candidate are replaced like those of any generation that is not wanted. */
static void go_back(struct master *master)
{
    struct reload *reload = &master->reload;
    master->present = reload->old;
    master->births = master->loads = (struct backoff){0};
    master->load_problem[0] = master->start_problem[0] = '\0';
    for (unsigned i = 1; i <= master->seat_count; i++) {
        struct seat *seat = &master->seats[i];
        if (seat->generation)
            seat->outdated = seat->generation == reload->candidate;
    }
}

static void keep_output(struct reload *reload, const struct output *output)
{
    if (reload->output_size == 0)
        reload->output_size = output_copy_tail(output, reload->output, sizeof(reload->output));
}

static void fail(struct master *master, const char *why)
{
    struct reload *reload = &master->reload;
    struct generation *candidate = reload->candidate;
    if (reload->state == RELOAD_REPLACING)
        go_back(master);
    if (reload->trial && reload->trial->child.state == CHILD_STARTING) {
        reload->trial->explained = reload->trial->outdated = true;
        supervise_send_signal(reload->trial, SIGKILL);
    }
    master->failed_reloads++;
    keep_output(reload, &candidate->output);
    dismiss(candidate);
    struct reload_result result = {.generation = master->present,
                                   .duration = clock_now() - reload->began_at,
                                   .problem = reload->problem[0] ? reload->problem : why,
                                   .output = reload->output,
                                   .output_size = reload->output_size};
    log_event(master->state == MASTER_SERVING ? LOG_ERROR : LOG_INFO, "reload_failed",
              LOG_FIELDS(.generation = candidate->number, .path = candidate->path, .cause = result.problem,
                         .duration = result.duration),
              "reload failed: %s; generation %u goes on", result.problem, master->present->number);
    end(master, &result);
}

static void finish(struct master *master)
{
    struct reload *reload = &master->reload;
    master->reloads++;
    struct reload_result result = {.done = true,
                                   .generation = master->present,
                                   .duration = clock_now() - reload->began_at,
                                   .replaced = reload->replaced};
    log_event(
        LOG_INFO, "reloaded",
        LOG_FIELDS(.generation = master->present->number, .engine = master->present->engine_name,
                   .path = master->present->path, .duration = result.duration, .count = reload->replaced),
        "reloaded: generation %u serves, %u workers replaced", master->present->number, reload->replaced);
    dismiss(reload->old);
    end(master, &result);
}

void reload_cancel(struct master *master)
{
    struct reload *reload = &master->reload;
    reload->again = false;
    if (reload->state != RELOAD_NONE)
        fail(master, "the server stops");
}

/* --- how it begins --- */

int reload_begin(struct master *master, const struct engine_spec *spec, reload_listener *listener,
                 void *context, char *problem, size_t size)
{
    struct reload *reload = &master->reload;
    if (master->state != MASTER_SERVING) {
        snprintf(problem, size, "the server stops");
        return -1;
    }
    if (upgrade_is_under_way()) {
        snprintf(problem, size, "an upgrade is under way");
        return -1;
    }
    if (reload->state != RELOAD_NONE) {
        snprintf(problem, size, "a reload is under way since %.1f s",
                 (double)(clock_now() - reload->began_at) / 1e9);
        return -1;
    }
    notify_reloading();
    struct generation *candidate = generation_start(master, spec ? spec : &master->present->spec);
    if (!candidate) {
        snprintf(problem, size, "cannot start a forkserver; the log says why");
        notify_ready();
        return -1;
    }
    *reload = (struct reload){.state = RELOAD_LOADING,
                              .candidate = candidate,
                              .began_at = clock_now(),
                              .listener = listener,
                              .context = context};
    log_event(LOG_INFO, "reloading", LOG_FIELDS(.generation = candidate->number, .path = candidate->path),
              "reloading: generation %u loads %s", candidate->number, candidate->path);
    return 0;
}

void reload_ask(struct master *master)
{
    char problem[128];
    if (master->reload.state != RELOAD_NONE || upgrade_is_under_way()) {
        master->reload.again = true;
        return;
    }
    if (reload_begin(master, NULL, NULL, NULL, problem, sizeof(problem)) < 0)
        log_event(LOG_WARN, "reload_failed", LOG_FIELDS(.cause = problem), "no reload: %s", problem);
}

void reload_forget_listener(struct master *master, const void *context)
{
    if (master->reload.context == context)
        master->reload.listener = NULL;
}

bool reload_holds(const struct master *master, const struct generation *generation)
{
    return generation == master->reload.candidate || generation == master->reload.old;
}

const char *reload_state_name(const struct master *master)
{
    static const char *const names[] = {
        [RELOAD_LOADING] = "loading", [RELOAD_TRYING] = "trying", [RELOAD_REPLACING] = "replacing"};
    return names[master->reload.state];
}

/* --- what happens meanwhile --- */

void reload_note_problem(struct master *master, const struct generation *generation, const char *problem)
{
    struct reload *reload = &master->reload;
    if (reload->state != RELOAD_NONE && generation == reload->candidate)
        snprintf(reload->problem, sizeof(reload->problem), "%s", problem);
}

void reload_on_loaded(struct master *master, struct generation *generation)
{
    struct reload *reload = &master->reload;
    if (reload->state == RELOAD_LOADING && generation == reload->candidate)
        reload->state = RELOAD_TRYING;
}

void reload_on_death(struct master *master, struct generation *generation)
{
    struct reload *reload = &master->reload;
    if (reload->state == RELOAD_NONE || generation != reload->candidate)
        return;
    fail(master, generation->loaded ? "its forkserver died" : "its forkserver died while it loaded");
}

static bool is_new_version(const struct generation *a, const struct generation *b)
{
    return strcmp(a->engine_name, b->engine_name) != 0 || strcmp(a->engine_version, b->engine_version) != 0 ||
           strcmp(a->build_id, b->build_id) != 0;
}

/* From here on workers are born of the candidate, and the others are replaced. */
static void take_over(struct master *master)
{
    struct reload *reload = &master->reload;
    reload->old = master->present;
    reload->state = RELOAD_REPLACING;
    reload->trial = NULL;
    master->present = reload->candidate;
    master->births = master->loads = (struct backoff){0};
    master->load_problem[0] = master->start_problem[0] = '\0';
    for (unsigned i = 1; i <= master->seat_count; i++)
        master->seats[i].outdated =
            master->seats[i].generation && master->seats[i].generation != reload->candidate;
    if (is_new_version(reload->old, reload->candidate) && quarantine_clear(&master->crashes->book, NULL) > 0)
        log_event(LOG_INFO, "quarantine_cleared", LOG_FIELDS(.engine = reload->candidate->engine_name),
                  "quarantine: cleared, as the engine is another one");
}

void reload_on_ready(struct seat *seat)
{
    if (seat->master->reload.trial == seat)
        take_over(seat->master);
}

void reload_on_replaced(struct seat *seat)
{
    seat->master->reload.replaced += seat->outdated;
}

void reload_on_lost_birth(struct seat *seat, const char *why)
{
    struct master *master = seat->master;
    struct reload *reload = &master->reload;
    if (reload->state == RELOAD_NONE || seat->generation != reload->candidate)
        return;
    char problem[LOAD_PROBLEM_SIZE];
    if (seat->explained)
        snprintf(problem, sizeof(problem), "%s", why);
    else
        snprintf(problem, sizeof(problem), "a first worker could not start: %.400s", why);
    keep_output(reload, &seat->output);
    if (reload->trial == seat || ++reload->failures >= FAILURES_MAX)
        fail(master, problem);
}

/* --- going on --- */

static bool all_are_replaced(const struct master *master)
{
    for (unsigned i = 1; i <= master->seat_count; i++) {
        const struct seat *seat = &master->seats[i];
        if (seat->outdated && (seat->child.state == CHILD_STARTING || seat->child.state == CHILD_READY))
            return false;
    }
    return births_serving(master) >= master->pool.target;
}

void reload_go_on(struct master *master)
{
    struct reload *reload = &master->reload;
    if (reload->state == RELOAD_TRYING && !reload->trial && reload->candidate->control >= 0) {
        reload->trial = births_try(reload->candidate); /* a full house: later */
    } else if (reload->state == RELOAD_REPLACING && all_are_replaced(master)) {
        finish(master);
    }
}
