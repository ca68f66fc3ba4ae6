/*
 * The default guest's PID 1: what its files share.
 *
 *   init.c     life: start, wait, report, stop      cmdline.c  the estalo.* words of /proc/cmdline
 *   mounts.c   file systems, and taking them down   network.c  loopback, DHCP
 *   command.c  starting the command                 frames.c   its standard streams as frames on
 * the serial line report.c   the monitor's report page            entropy.c  a seed for the random
 * number generator agent.c    starting the agent
 *
 * No allocation, and few system calls: where kernel mode is emulated each costs about a
 * millisecond.
 */
#ifndef ESTALO_INIT_H
#define ESTALO_INIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum stdio_mode {
  STDIO_CONSOLE,  /* the command owns the console */
  STDIO_PIPES,    /* frames; the command has pipes */
  STDIO_TERMINAL, /* frames; the command has a pseudo-terminal */
};

enum { MAX_WORDS = 256 };

/* What the kernel's command line asked for. Strings point into cmdline.c's buffer. */
struct options {
  char* argv[MAX_WORDS + 1]; /* the command; empty: an interactive shell */
  char* envp[MAX_WORDS + 1];
  size_t argc;
  size_t envc;
  const char* directory;
  const char* hostname;
  enum stdio_mode stdio;
  uint16_t rows, columns; /* STDIO_TERMINAL's window */
};

void read_options(struct options* options);

void mount_file_systems(void);
void unmount_file_systems(void);

void start_network(void);

/* Starts the agent where there is a socket device to hear the host by. */
void start_agent(void);

void seed_random(void);

/* The command's streams as its parent sees them; -1: there is none. In STDIO_TERMINAL all is one
 * descriptor. */
struct streams {
  int input, output, error;
};

/* Starts the command; returns its process id. The child ends with 126 or 127 if it cannot run, as a
 * shell does. */
pid_t start_command(const struct options* options, struct streams* streams);

/* In a child: turns it into the program, with init's own environment and with the signals let
 * through that init blocks; ends the child if that fails. */
_Noreturn void become_program(char* const argv[]);

/* Everything a shutdown can be asked by, and what ended the wait. */
struct outcome {
  pid_t command;  /* -1 until it was started */
  bool ended;     /* the command ended, with status */
  uint8_t status; /* 0..255; 128 + signal if a signal ended it */
  int request;    /* reboot(2) command somebody asked for by a signal; 0: nobody */
};

/* Takes the signals waiting on signalfd `signals` and reaps; true when it is time to stop. */
bool take_signals(int signals, struct outcome* outcome);

/* Carries the streams until take_signals() says stop, then sends what is left. `signals` is the
 * signalfd. */
void carry_frames(const struct options* options, struct streams* streams, int signals,
                  struct outcome* outcome);
/* Makes the serial line ready for frames. */
void open_frames(void);

void report_open(void);
void report_boot(void);
void report_status(uint8_t status);
void report_power_off(void);

#endif
