/* Socket activation (sd_listen_fds(3)), without libsystemd: a listening socket that somebody else owns and
 * hands to the master. Its file is never unlinked, and whoever connects while no master runs waits in it for
 * the next one. */
#ifndef ACTIVATION_H
#define ACTIVATION_H

/* The listening Unix socket of LISTEN_FDS, non-blocking; -1 where this process was given none. Ends the
 * process where it is not exactly one such socket. The variables are taken out of the environment;
 * COHAB_SOCKET is set to the socket's path where it is not set, for this process and its children. To be
 * called once, first. */
int activation_take(void);

#endif
